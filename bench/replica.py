"""One server process of ours: started, found, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from bench.link import Server
from bench.served import read_lag
from mergescale.kernel.keys import MachineKey

_START_S: Final = 30.0
_STOP_S: Final = 20.0
ROOT: Final = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Replica:
    """A server process; most often the only one of its site.

    Attributes:
        folder: its state, its log and the samples of its loop's lag.
        relay_port: on loopback.
        api: a client that it trusts.
        server: where clients find it.
    """

    folder: Path
    relay_port: int
    process: subprocess.Popen[bytes]
    api: httpx.Client
    server: Server

    @property
    def pid(self) -> int:
        """The process."""
        return self.process.pid

    @property
    def socket(self) -> Path:
        """Where the API trusts whoever connects."""
        return _socket(self.folder)

    def lag(self, start: float, end: float) -> list[float]:
        """Return how late its loop was, in seconds, between two monotonic times."""
        return read_lag(self.folder / "lag", start, end)


@contextlib.contextmanager
def serving(folder: Path, settings: Mapping[str, str]) -> Iterator[Replica]:
    """Run a server for the block.

    Args:
        folder: a scratch folder; it is made.
        settings: the server's own; where it listens and keeps its state is decided here.
    """
    ports = _free_ports(3)
    (folder / "state").mkdir(parents=True)
    with contextlib.ExitStack() as resources:
        log = resources.enter_context((folder / "log").open("wb"))
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.served", str(folder / "lag")],
            cwd=ROOT,
            env=_environment({**settings, **_places(folder, ports)}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        resources.callback(_end, process)
        api = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(_socket(folder))),
            base_url="http://localhost/api/v2",
            timeout=60,
        )
        resources.callback(api.close)
        server = _when_up(process, ports[0], folder / "log")
        yield Replica(folder, ports[1], process, api, server)


def find(url: str) -> Server:
    """Read a server's key.

    Raises:
        httpx.HTTPError: it does not answer.
    """
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    # Authorities take longer to read than the answer, and are for TLS only.
    answer = httpx.get(f"{url}/key?v=130", timeout=5, verify=tls)
    answer.raise_for_status()
    key = MachineKey.parse(answer.json()["publicKey"])
    return Server(parts.hostname or "", parts.port or (443 if tls else 80), key, tls=tls)


def _socket(folder: Path) -> Path:
    return folder / "state" / "mergescale.sock"


def _places(folder: Path, ports: list[int]) -> dict[str, str]:
    return {
        "listen": f"127.0.0.1:{ports[0]}",
        "relay_listen": f"127.0.0.1:{ports[1]}",
        "stun_listen": f"127.0.0.1:{ports[2]}",
        "state_dir": str(folder / "state"),
        "log_format": "json",
    }


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
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
