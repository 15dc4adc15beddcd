"""Where the edge listens: TCP addresses, a unix socket, or sockets that somebody else opened."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergescale.kernel.errors import MergescaleError

#: LIMIT: a thousand clients come back within a second of a restart; the kernel's default maximum.
BACKLOG = 4096
#: LIMIT: how long a closing TLS connection waits for the peer's close_notify. Default is 30 s.
TLS_SHUTDOWN_S = 1.0
#: LIMIT: how long a TLS handshake may take. Default is 60 s.
TLS_HANDSHAKE_S = 10.0

Factory = Callable[[], asyncio.Protocol]


class CannotListen(MergescaleError):
    """Raised when an address cannot be had; the server does not start."""

    code = "server.listen"

    def __init__(self, address: object, setting: str, error: OSError) -> None:
        super().__init__(
            f"cannot listen on {address}: {_reason(error)}",
            help=f"{setting} (MERGESCALE_{setting.upper()}) names the address" if setting else "",
        )


@dataclass(frozen=True, slots=True)
class TcpListener:
    """A TCP address.

    Attributes:
        host: address or name; ``127.0.0.1``, ``0.0.0.0``, ``::``.
        port: 0 picks a free one; see `Edge.addresses`.
        tls: None for plain HTTP. The context must not offer ``h2``: HTTP/2 cannot switch protocols.
        setting: where the address comes from, for who has to change it.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    setting: str = ""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixListener:
    """A unix socket for this machine's own command line. Its requests are trusted.

    Attributes:
        path: replaced if a socket is there already.
        mode: file permissions; whoever may connect is an administrator.
        setting: where the path comes from.
    """

    path: Path
    mode: int = 0o600
    setting: str = ""

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class PassedListener:
    """A bound socket that the caller keeps: the edge listens on a duplicate.

    Connections that arrive while no edge runs wait in the backlog, so a restart refuses nobody.

    Attributes:
        sock: TCP or unix; a unix socket's requests are trusted.
        tls: None for plain.
    """

    sock: socket.socket
    tls: ssl.SSLContext | None = None
    setting: str = ""

    def __str__(self) -> str:
        return "a socket that was passed"


Listener = TcpListener | UnixListener | PassedListener


def is_local(listener: Listener) -> bool:
    """Say whether requests of this listener come from this machine's administrator."""
    match listener:
        case UnixListener():
            return True
        case PassedListener(sock=sock):
            return sock.family == socket.AF_UNIX
        case TcpListener():
            return False


async def listen(listener: Listener, factory: Factory) -> asyncio.Server:
    """Start to accept connections.

    Raises:
        CannotListen: the address cannot be had.
    """
    try:
        return await _open(listener, factory)
    except OSError as error:
        raise CannotListen(listener, listener.setting, error) from error


async def _open(listener: Listener, factory: Factory) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    match listener:
        case TcpListener(host=host, port=port, tls=tls):
            return await loop.create_server(
                factory, host, port, ssl=tls, backlog=BACKLOG, **_deadlines(tls)
            )
        case UnixListener(path=path, mode=mode):
            sock = bind_unix(path, mode)
            return await loop.create_unix_server(factory, sock=sock, backlog=BACKLOG)
        case PassedListener(sock=sock, tls=tls):
            own = sock.dup()
            own.setblocking(False)
            if is_local(listener):
                return await loop.create_unix_server(factory, sock=own, backlog=BACKLOG)
            return await loop.create_server(
                factory, sock=own, ssl=tls, backlog=BACKLOG, **_deadlines(tls)
            )


def _reason(error: OSError) -> str:
    """Return what the system says; the loop's own words, where it says more, repeat the address."""
    if isinstance(error, socket.gaierror) or not error.errno:
        return (error.strerror or str(error)).lower()
    return os.strerror(error.errno).lower()


def _deadlines(tls: ssl.SSLContext | None) -> dict[str, Any]:
    if tls is None:
        return {}
    return {"ssl_handshake_timeout": TLS_HANDSHAKE_S, "ssl_shutdown_timeout": TLS_SHUTDOWN_S}


def bind_unix(path: Path, mode: int) -> socket.socket:
    """Bind a unix socket with permissions `mode` before anyone can connect to it."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.stat().st_mode):
            path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(os.fspath(path))
        # A connect is refused until listen(), so there is no moment with wider permissions.
        path.chmod(mode)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


#: LIMIT: half of the 120 s after which a Go client itself gives a silent map stream up.
UNACKNOWLEDGED_S = 60


def watch_for_dead_peer(sock: Any) -> None:
    """Let the kernel find a peer that vanished without a FIN (laptop lid, NAT timeout).

    An HTTP/2 PING would need a timer per client and wake sleeping phones; the kernel does it for
    nothing. ``TCP_USER_TIMEOUT`` covers data that is never acknowledged, keepalive the silence:
    first probe after 2 minutes, then every 15 s, gone after the fourth.
    """
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    options = [
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 120),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 15),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 4),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", UNACKNOWLEDGED_S * 1000),
    ]
    for level, name, value in options:
        # Not every system has every option, and the peer may be gone already.
        if (option := getattr(socket, name, None)) is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(level, option, value)
