"""One server process as operators see it: metrics, logs without secrets, and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from mergescale.kernel.keys import MachineKey, PrivateKey
from mergescale.state.throttle import API_TOKEN, AUTH_KEY_MACHINE
from mergescale.wire.noise import public_key
from support.aio import aio
from support.control_world import Device
from support.machines import CAPABILITY_VERSION
from support.noise_client import NoiseClient
from support.plain import PLAIN
from support.real_clients import eventually, free_port
from support.server_process import Api, PolicyRepository, ServerProcess, serving
from support.worlds import key_bytes

pytestmark = pytest.mark.enable_socket


@pytest.fixture
def server(tmp_path: Path) -> ServerProcess:
    repository = PolicyRepository.from_example(tmp_path / "policy", "01-start-up")
    metrics = f"127.0.0.1:{free_port()}"
    return ServerProcess(
        tmp_path / "state", repository.folder, settings={"metrics_listen": metrics}
    )


@pytest.fixture
def api(server: ServerProcess) -> Iterator[Api]:
    with serving(server) as api:
        yield api


@contextlib.asynccontextmanager
async def device(
    server: ServerProcess, name: str, version: int = CAPABILITY_VERSION
) -> AsyncIterator[Device]:
    """Connect a machine."""
    async with httpx.AsyncClient(verify=PLAIN, trust_env=False) as http:
        told = await http.get(f"{server.url}/key?v={CAPABILITY_VERSION}")
    machine = PrivateKey(key_bytes(f"machine {name}"))
    async with NoiseClient.connect(
        "127.0.0.1",
        server.port,
        machine=machine,
        server=MachineKey.parse(told.json()["publicKey"]),
        version=version,
    ) as noise:
        yield Device(name, noise, public_key(machine), version)


def scraped(server: ServerProcess) -> str:
    """Return what the listener for metrics tells."""
    address = server.settings["metrics_listen"]
    answer = httpx.get(f"http://{address}/metrics", timeout=10, verify=PLAIN)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return answer.text


def value(text: str, sample: str) -> float:
    """Return the value of a sample by its name and labels."""
    found = re.search(rf"^{re.escape(sample)} (\S+)$", text, re.MULTILINE)
    assert found is not None, sample
    return float(found[1])


def some_user(server: ServerProcess) -> str:
    """Return the login of somebody the policy names."""
    users = json.loads(server.cli("users", "list", "-o", "json").stdout)
    return str(users[0]["loginName"])


@aio
async def test_metrics_tell_what_happened(server: ServerProcess, api: Api) -> None:
    """A joined device is counted where it should be; the public port and its API have no metrics."""
    key = await asyncio.to_thread(api.auth_key, user=some_user(server))
    async with device(server, "laptop") as laptop:
        await laptop.join(key)
        async with laptop.polling() as stream:
            await stream.next()
            text = await asyncio.to_thread(scraped, server)
    assert value(text, 'mergescale_clients_connected{tailnet="default"}') == 1
    assert value(text, 'mergescale_nodes{tailnet="default"}') == 1
    assert value(text, 'mergescale_map_bytes_count{kind="full"}') == 1
    assert value(text, 'mergescale_map_bytes_sum{kind="full"}') > 100
    assert value(text, "mergescale_commit_seconds_count") >= 3
    assert value(text, "mergescale_commit_failures_total") == 0
    assert value(text, 'mergescale_git_lag_seconds{tailnet="default"}') == 0
    assert value(text, 'mergescale_git_failures{tailnet="default"}') == 0
    assert value(text, "mergescale_loop_lag_seconds_count") > 0
    assert value(text, "process_resident_memory_bytes") > 1_000_000
    await asyncio.to_thread(_nobody_else_has_metrics, server, api)


def _nobody_else_has_metrics(server: ServerProcess, api: Api) -> None:
    assert httpx.get(f"{server.url}/metrics").status_code == 404
    assert api.http.get(f"{server.url}/metrics").status_code == 404
    transport = httpx.HTTPTransport(uds=str(server.state_dir / "mergescale.sock"))
    with httpx.Client(transport=transport) as local:
        assert "mergescale_nodes" in local.get("http://local/metrics").text
    alone = f"http://{server.settings['metrics_listen']}"
    for path in ("/health", "/ts2021", "/", "/api/v2/tailnet/-/devices"):
        assert httpx.get(f"{alone}{path}").status_code == 404


@aio
async def test_no_secret_leaves_the_server(server: ServerProcess, api: Api) -> None:
    """Not in a log at debug level, an error, a metric or an answer, whatever is done with it."""
    token = (server.state_dir / "admin-token").read_text("utf-8").strip()
    user = some_user(server)
    key = await asyncio.to_thread(api.auth_key, user=user)
    wrong = key[:-4] + "zzzz"
    answers: list[str] = []
    async with device(server, "laptop") as laptop:
        refused = await laptop.register(auth=wrong)
        answers.append(json.dumps(refused))
        answers.append(json.dumps(await laptop.join(key)))
        async with laptop.polling() as stream:
            await stream.next()
            answers.append(await asyncio.to_thread(scraped, server))
        garbled = await laptop.noise.post("/machine/register", key.encode())
        answers.append(garbled.body.decode())
    secrets = [one.split("-", 3)[3] for one in (token, key, wrong)]
    answers += await asyncio.to_thread(_asked, server, api, token, key)
    master = (server.state_dir / "master-key").read_text("utf-8").strip()
    await asyncio.to_thread(server.stop)
    said = "\n".join([server.log.read_text("utf-8"), *answers])
    assert "server.stopped" in said
    assert "map.sent" in said
    found = [one for one in (*secrets, master) if one in said]
    assert found == []
    assert re.findall(r"privkey:|PRIVATE KEY", said) == []


def _asked(server: ServerProcess, api: Api, token: str, key: str) -> list[str]:
    """Ask for everything, with secrets in the wrong places too; return what was said."""
    paths = (
        "/api/v2/tailnet/-/devices?fields=all",
        "/api/v2/tailnet/-/keys?all=true",
        "/api/v2/tailnet/-/users",
        "/api/v2/tailnet/-/gitops",
        f"/api/v2/tailnet/-/keys/{key}",
        f"/api/v2/device/{token}",
        f"/register/{key}",
        "/health",
        "/version",
        "/api/openapi.json",
        f"/nothing?token={token}",
    )
    headers = (f"Bearer {key}", f"Bearer {token}x", f"Basic {token}", token)
    devices = f"{server.url}/api/v2/tailnet/-/devices"
    listed = server.cli("authkeys", "list")
    return [
        *(api.http.get(f"{server.url}{path}").text for path in paths),
        *(httpx.get(devices, headers={"authorization": one}).text for one in headers),
        api.http.post("/tailnet/-/keys", json={"capabilities": token}).text,
        listed.stdout + listed.stderr,
    ]


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("database_url", "postgresql+psycopg://mergescale:hunter2@127.0.0.1:1/mergescale"),
        ("database_url", "mysql://mergescale:hunter2@127.0.0.1/mergescale"),
        ("repository", "https://ana:hunter2@git.example.com/policy.git"),
        ("server_url", "https://ana:hunter2@vpn.example.com/path"),
    ],
)
def test_a_password_in_a_setting_is_not_repeated(setting: str, text: str, tmp_path: Path) -> None:
    """A server that cannot start for it says why, and not the password."""
    server = ServerProcess(tmp_path / "state", settings={setting: text})
    done = server.cli("serve")
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "error: " in said
    assert "hunter2" not in said


def test_wrong_tokens_have_to_wait(server: ServerProcess, api: Api) -> None:
    """A 429 with Retry-After, for a good token too; not for the socket, nor for no token at all."""
    token = token_of(server).decode()
    devices = f"{server.url}/api/v2/tailnet/-/devices"
    with httpx.Client(headers={"authorization": f"Bearer {token}x"}) as guesser:
        statuses = [guesser.get(devices).status_code for _ in range(API_TOKEN.burst)]
        assert set(statuses) == {401}
        limited = guesser.get(devices)
    assert limited.status_code == 429
    assert 0 < int(limited.headers["retry-after"]) <= API_TOKEN.every_s
    assert limited.json()["message"].startswith("too many failed attempts, try again in ")
    assert api.http.get(devices).status_code == 429
    assert httpx.get(devices).status_code == 401
    assert server.cli("nodes", "list").returncode == 0


@aio
async def test_refused_keys_have_to_wait(server: ServerProcess, api: Api) -> None:
    """A text for its user, or a 429 for a client that can wait; another machine still joins."""
    good = await asyncio.to_thread(api.auth_key, user=some_user(server))
    async with device(server, "guesser") as old, device(server, "guesser", 137) as new:
        for _ in range(AUTH_KEY_MACHINE.burst):
            refused = await old.register(auth=good + "x")
            assert "too many" not in refused["Error"]
        refused = await old.register(auth=good)
        assert refused["Error"].startswith("too many failed attempts, try again in ")
        answer = await new.post("/machine/register", new.register_request(auth=good))
        assert answer.status == 429
        assert 0 < int(answer.headers["retry-after"]) <= AUTH_KEY_MACHINE.every_s
    async with device(server, "laptop") as laptop:
        await laptop.join(good)


@aio
async def test_a_stop_ends_open_streams_in_order(server: ServerProcess, api: Api) -> None:
    """SIGTERM ends every map stream by an end that clients know, well before 5 seconds."""
    key = await asyncio.to_thread(api.auth_key, user=some_user(server), reusable=True)
    async with contextlib.AsyncExitStack() as open_streams:
        streams = []
        for name in ("laptop", "phone", "server"):
            one = await open_streams.enter_async_context(device(server, name))
            await one.join(key)
            streams.append(await open_streams.enter_async_context(one.polling()))
            await streams[-1].next()
        start = time.monotonic()
        assert await asyncio.to_thread(server.stop) == 0
        # The claim of a deadline is tested by the deadline; it usually takes a tenth of it.
        assert time.monotonic() - start < 5
    assert [entry["event"] for entry in server.events("edge.cut")] == []
    assert len(server.events("server.stopped")) == 1


def test_a_second_signal_ends_at_once(server: ServerProcess) -> None:
    """Whoever insists does not wait: the first stop is busy with a request that does not end."""
    server.start()
    process = server.process
    assert process is not None
    try:
        with socket.create_connection(("127.0.0.1", server.port)) as stuck:
            stuck.sendall(
                b"POST /api/v2/tailnet/-/keys HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n"
                b"Authorization: Bearer " + token_of(server) + b"\r\n\r\n{"
            )
            # It waits for the body, so the server has read the head by the time it answers this.
            assert server.healthy()
            os.kill(process.pid, signal.SIGTERM)
            eventually("it begins to stop", lambda: bool(server.events("server.stopping")))
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait(10) == -signal.SIGTERM
    finally:
        server.stop(signal.SIGKILL)
    assert server.events("server.stopped") == []


def token_of(server: ServerProcess) -> bytes:
    """Return the administrator token."""
    return (server.state_dir / "admin-token").read_bytes().strip()
