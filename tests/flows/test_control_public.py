"""What control answers outside Noise, by plain HTTP through the edge."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from mergescale.kernel.keys import NodeKey
from mergescale.state import nodes
from support.aio import aio
from support.control_world import Control, controlled, people
from support.worlds import named, world

pytestmark = pytest.mark.enable_socket

LAPTOP = "alice@example.com: laptop"


@pytest.mark.parametrize("version", [39, 106, 145, 100_000])
def test_the_key_is_told_to_who_can_use_it(version: int) -> None:
    """Both members, neither zero, readable from any web page's origin."""

    @aio
    async def conversation() -> None:
        async with controlled() as control, control.http as http:
            answer = await http.get("/key", params={"v": version})
            assert answer.status_code == 200
            assert answer.json() == {
                "legacyPublicKey": str(control.key),
                "publicKey": str(control.key),
            }
            assert any(control.key.raw)
            assert answer.headers["access-control-allow-origin"] == "*"
            assert answer.headers["content-type"] == "application/json"

    conversation()


@pytest.mark.parametrize("query", ["", "?v=", "?v=38", "?v=-1", "?v=abc"])
def test_the_key_is_not_told_to_others(query: str) -> None:
    """A client that does not say it speaks Noise gets a 400."""

    @aio
    async def conversation() -> None:
        async with controlled() as control, control.http as http:
            answer = await http.get(f"/key{query}")
            assert answer.status_code == 400
            assert answer.text
            assert "mkey:" not in answer.text

    conversation()


async def raw(control: Control, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", control.port)
    try:
        writer.write(request)
        return await reader.read()
    finally:
        writer.close()


@aio
async def test_an_absolute_target_is_the_same_path() -> None:
    """The Rust client writes whole URLs as targets."""
    async with controlled() as control:
        end = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        for target in (b"https://control.example.com/key?v=130", b"http://x:1/key?v=130"):
            answer = await raw(control, b"GET " + target + end)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.endswith(b'"publicKey":"%s"}' % str(control.key).encode())
        answer = await raw(control, b"GET https://x/generate_204" + end)
        assert answer.startswith(b"HTTP/1.1 204 ")


@aio
async def test_relays_learn_whose_keys_are_ours() -> None:
    """Every tailnet's nodes, as of now; unknown and zero keys and garbage are not let in."""
    other = people("bob@example.com: phone", tailnet="other")
    async with controlled(world(LAPTOP), other) as control, control.http as http:

        async def allowed(body: object) -> bool:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            answer = await http.post("/verify", content=content)
            assert answer.status_code == 200
            assert list(answer.json()) == ["Allow"]
            allow: bool = answer.json()["Allow"]
            return allow

        laptop = named(control.snapshot, "laptop")
        phone = named(control.tailnet("other").snapshot, "phone")
        for node in (laptop, phone):
            assert await allowed({"NodePublic": str(node.node_key), "Source": "192.0.2.1"}) is True
        assert await allowed({"nodepublic": str(laptop.node_key).upper()}) is False
        unknown = [NodeKey(b"\x07" * 32), NodeKey.zero()]
        for key in unknown:
            assert await allowed({"NodePublic": str(key)}) is False
        for garbage in (
            b"",
            b"{",
            b"[]",
            b"\xff",
            {},
            {"NodePublic": 7},
            {"NodePublic": "nodekey:"},
        ):
            assert await allowed(garbage) is False
        await control.apply(nodes.delete(laptop.id))
        assert await allowed({"NodePublic": str(laptop.node_key)}) is False


@aio
async def test_an_admission_request_has_4_kib() -> None:
    """More is refused before it is read to the end, whether its length is told or not."""
    async with controlled(world(LAPTOP)) as control, control.http as http:
        key = str(named(control.snapshot, "laptop").node_key)
        body = json.dumps({"NodePublic": key, "Source": "x"}).encode()
        fits = body + b" " * (4096 - len(body))
        assert (await http.post("/verify", content=fits)).json() == {"Allow": True}
        assert (await http.post("/verify", content=fits + b" ")).status_code == 413
        head = b"POST /verify HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        told = await raw(control, head + b"Content-Length: 1073741824\r\n\r\n{")
        assert told.startswith(b"HTTP/1.1 413 ")
        chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
        untold = await raw(control, head + b"Transfer-Encoding: chunked\r\n\r\n" + 2 * chunk)
        assert untold.startswith(b"HTTP/1.1 413 ")


@aio
async def test_bootstrap_dns_knows_our_own_names_only() -> None:
    """It is no open resolver: a foreign name has no answer, and is not even looked up."""
    async with controlled(hosts=("localhost",)) as control, control.http as http:
        for path in ("/bootstrap-dns", "/bootstrap-dns?q=localhost", "/bootstrap-dns?q=LocalHost."):
            answer = await http.get(path)
            assert answer.status_code == 200
            assert "127.0.0.1" in answer.json()["localhost"]
            assert answer.headers["access-control-allow-origin"] == "*"
        for name in ("example.org", "127.0.0.1", "localhost.example.org", "a" * 300, "%00"):
            answer = await http.get(f"/bootstrap-dns?q={name}")
            assert (answer.status_code, answer.json()) == (200, {})


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("challenge", "echo"),
    [
        ("ts_derp.example.com:1-2", "response ts_derp.example.com:1-2"),
        ("x" * 64, "response " + "x" * 64),
        ("x" * 65, None),
        ("a b", None),
        ("<script>", None),
        ("", None),
        (None, None),
    ],
)
def test_a_captive_portal_check_is_answered(
    method: str, challenge: str | None, echo: str | None
) -> None:
    """204 without a body, never cached; a challenge is echoed only if it looks like one."""

    @aio
    async def conversation() -> None:
        async with controlled() as control, control.http as http:
            headers = {} if challenge is None else {"X-Tailscale-Challenge": challenge}
            answer = await http.request(method, "/generate_204", headers=headers)
            assert (answer.status_code, answer.content) == (204, b"")
            assert answer.headers.get("x-tailscale-response") == echo
            assert "no-store" in answer.headers["cache-control"]

    conversation()


@aio
async def test_control_is_not_reached_without_noise() -> None:
    """The handlers behind Noise do not exist on the outside."""
    async with controlled() as control, control.http as http:
        for path in ("/machine/register", "/machine/map", "/machine/c2n/abc"):
            assert (await http.post(path, content=b"{}")).status_code == 404


def test_loopback_has_a_name() -> None:
    """The tests above may rely on it."""
    assert socket.gethostbyname("localhost") == "127.0.0.1"
