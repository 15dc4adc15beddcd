"""The server under test, the repository it watches, and its API."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import httpx

from bench import tailnet
from bench.link import Server
from bench.served import read_lag
from mergescale.kernel.keys import MachineKey

_START_S: Final = 30.0
_STOP_S: Final = 20.0
ROOT: Final = Path(__file__).parents[1]
_GIT: Final = {
    "GIT_AUTHOR_NAME": "Bench",
    "GIT_AUTHOR_EMAIL": "bench@example.com",
    "GIT_COMMITTER_NAME": "Bench",
    "GIT_COMMITTER_EMAIL": "bench@example.com",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


class Target(Protocol):
    """A server to put load on."""

    @property
    def pid(self) -> int | None:
        """Its process on this machine; None when it is not ours to look at."""
        ...

    def auth_key(self, number: int) -> str:
        """Return the pre-auth key that client `number` registers with."""
        ...


@dataclass(frozen=True, slots=True)
class Stranger:
    """A server that somebody else runs: it has an address and a key, and nothing else is known."""

    server: Server
    key: str
    pid: None = None

    def auth_key(self, number: int) -> str:  # noqa: ARG002 - one for all
        """Return the reusable key given on the command line."""
        return self.key


@dataclass(slots=True)
class Site:
    """A server of our own, in a scratch folder.

    Attributes:
        http_port, relay_port: on loopback.
    """

    folder: Path
    http_port: int
    relay_port: int
    process: subprocess.Popen[bytes]
    api: httpx.Client
    server: Server
    policy: tailnet.Policy = field(default_factory=tailnet.Policy)
    _keys: dict[str, str] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        """The server's process."""
        return self.process.pid

    @property
    def socket(self) -> Path:
        """Where the API trusts whoever connects."""
        return self.folder / "state" / "mergescale.sock"

    def auth_key(self, number: int) -> str:
        """Return a reusable key of the owner of client `number`, made at its first use."""
        tag, owner = tailnet.tag_of(number), tailnet.owner_of(number)
        name = tag or owner or ""
        if name not in self._keys:
            create = {"reusable": True, "preauthorized": True, "tags": [tag] if tag else []}
            body: dict[str, Any] = {"capabilities": {"devices": {"create": create}}}
            if owner:
                body["user"] = owner
            answer = self.api.post("/tailnet/-/keys", json=body)
            answer.raise_for_status()
            self._keys[name] = answer.json()["key"]
        return self._keys[name]

    def make_keys(self, size: int) -> None:
        """Make the keys of all clients ahead."""
        for number in range(size):
            self.auth_key(number)

    def commit(self, policy: tailnet.Policy) -> None:
        """Commit a policy to the watched repository."""
        self.policy = policy
        repository = self.folder / "policy"
        (repository / "policy.hujson").write_text(policy.text, "utf-8")
        _git(repository, "commit", "--quiet", "--all", "--message", "one rule")

    def lag(self, start: float, end: float) -> list[float]:
        """Return how late the server's loop was, in seconds, between two monotonic times."""
        return read_lag(self.folder / "lag", start, end)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Site]:
    """Run a server on a fresh tailnet for the block."""
    repository = folder / "policy"
    repository.mkdir(parents=True)
    _git(repository, "init", "--quiet", "--initial-branch=main")
    (repository / "policy.hujson").write_text(tailnet.Policy().text, "utf-8")
    (repository / "users.hujson").write_text(tailnet.users_text(), "utf-8")
    _git(repository, "add", "--all")
    _git(repository, "commit", "--quiet", "--message", "a first policy")
    ports = _free_ports(3)
    state = folder / "state"
    state.mkdir()
    with contextlib.ExitStack() as resources:
        log = resources.enter_context((folder / "log").open("wb"))
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.served", str(folder / "lag")],
            cwd=ROOT,
            env=_environment(state, repository, ports),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        resources.callback(_end, process)
        api = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(state / "mergescale.sock")),
            base_url="http://localhost/api/v2",
            timeout=60,
        )
        resources.callback(api.close)
        server = _when_up(process, ports[0], folder / "log")
        yield Site(folder, ports[0], ports[1], process, api, server)


def find(url: str) -> Server:
    """Read a server's key.

    Raises:
        httpx.HTTPError: it does not answer.
    """
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    answer = httpx.get(f"{url}/key?v=130", timeout=5)
    answer.raise_for_status()
    key = MachineKey.parse(answer.json()["publicKey"])
    return Server(parts.hostname or "", parts.port or (443 if tls else 80), key, tls=tls)


def _environment(state: Path, repository: Path, ports: list[int]) -> dict[str, str]:
    settings = {
        "listen": f"127.0.0.1:{ports[0]}",
        "relay_listen": f"127.0.0.1:{ports[1]}",
        "stun_listen": f"127.0.0.1:{ports[2]}",
        "state_dir": str(state),
        "repository": str(repository),
        "log_format": "json",
    }
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MERGESCALE_")}
    return {**inherited, **{f"MERGESCALE_{k.upper()}": v for k, v in settings.items()}}


def _when_up(process: subprocess.Popen[bytes], port: int, log: Path) -> Server:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            return find(f"http://127.0.0.1:{port}")
        time.sleep(0.05)
    raise RuntimeError(f"the server did not start: {log.read_text('utf-8', 'replace')[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop the server and whatever it started."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _git(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", *arguments], cwd=folder, env={**os.environ, **_GIT}, check=True, capture_output=True
    )


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody has now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
