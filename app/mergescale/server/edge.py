"""The edge: all listeners of the process, one application, one lifecycle.

What arrives on a socket is read by ``server.takeover``: HTTP/1.1 for the outer ASGI application, and
the upgrades (``/ts2021``, ``/derp``) that leave HTTP.

The server loop is our own, as ``uvicorn.Server`` has one listener per process, takes the signal
handlers and raises the signal again when it is done. uvicorn's configuration, registry, lifespan
and protocol classes are used as they are.

What must hold:

* INVARIANT(local): ``scope["state"]["local"]`` is True exactly for requests that came by a unix
  socket. It is set per listener, never from anything a request says.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import structlog
from uvicorn.config import Config
from uvicorn.server import ServerState

from mergescale.kernel.errors import MergescaleError
from mergescale.server.listeners import CannotListen, Listener, is_local, listen
from mergescale.server.proxies import Proxies
from mergescale.server.takeover import (
    HEAD_S,
    MESSAGE_S,
    Claim,
    EdgeProtocol,
    Routes,
    Takeover,
)
from mergescale.server.unread import Unread

log = structlog.get_logger()

#: LIMIT: longer than the 60 s for which nginx keeps a connection to its upstream, so that the proxy
#: closes first and never sends a request into a closing socket.
KEEP_ALIVE_S = 75
#: LIMIT: longest WebSocket message; control and relay send far shorter ones, and uvicorn collects
#: a message whole before anybody sees it.
WEBSOCKET_BYTES = 1 << 20
#: LIMIT: what the application's own shutdown may take before it is left alone.
LIFESPAN_S = 10.0


class StartFailed(MergescaleError):
    """Raised when the application's lifespan did not start."""

    code = "server.start"


class Edge:
    """All listeners of a process, one application, one lifecycle. Handles no signals.

    Attributes:
        state: what is open: connections and running handlers.
    """

    def __init__(
        self,
        app: Any,
        listeners: Sequence[Listener],
        takeovers: Mapping[Claim, Takeover],
        *,
        trusted_proxies: Sequence[str] = (),
        head_s: float = HEAD_S,
        message_s: float = MESSAGE_S,
        sockets: int = sys.maxsize,
        unread: Unread | None = None,
    ) -> None:
        """Prepare; nothing is opened before `start`.

        Args:
            app: the outer ASGI application; its lifespan runs once.
            listeners: where to listen.
            takeovers: who gets which upgrades.
            trusted_proxies: addresses and networks whose ``X-Forwarded-For`` and ``-Proto`` are
                believed; see ``server.proxies``.
            head_s: seconds a request head may take.
            message_s: seconds a request's body may take.
            sockets: connections at a time; see `descriptors.room`.
            unread: bounds of what was answered and not read; None for the usual ones.
        """
        claims = {
            replace(claim, upgrade=claim.upgrade.lower()): to for claim, to in takeovers.items()
        }
        self.state = ServerState()
        self._listeners = tuple(listeners)
        proxies = Proxies(trusted_proxies)
        self._routes = Routes(
            claims, head_s, message_s, sockets, proxies, unread=unread or Unread()
        )
        self._config = Config(
            app,
            interface="asgi3",
            http=EdgeProtocol,
            ws="wsproto",
            ws_max_size=WEBSOCKET_BYTES,
            ws_per_message_deflate=False,  # sealed bytes do not compress (spec 2.2)
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=list(trusted_proxies),
        )
        self._lifespan: Any = None
        self._servers: list[asyncio.Server] = []
        self._date_timer: asyncio.TimerHandle | None = None

    @property
    def addresses(self) -> list[Any]:
        """Return the socket names listened on, in the order of the listeners."""
        return [sock.getsockname() for server in self._servers for sock in server.sockets]

    def listens(self, listener: Listener) -> bool:
        """Say whether connections to one of the listeners are accepted."""
        place = self._listeners.index(listener)
        return place < len(self._servers) and self._servers[place].is_serving()

    async def start(self) -> None:
        """Run the application's startup, then listen.

        Raises:
            StartFailed: the startup failed; the reason is in the log.
            CannotListen: an address cannot be had. Startup is undone.
        """
        self._config.load()
        self._lifespan = self._config.lifespan_class(self._config)
        await self._lifespan.startup()
        if self._lifespan.should_exit:
            raise StartFailed("the application did not start")
        self._stamp_date()
        try:
            for listener in self._listeners:
                self._servers.append(await self._listen(listener))
        except CannotListen:
            await self.stop(0)
            raise

    async def stop(self, grace_s: float) -> None:
        """Stop accepting, tell every client, wait up to `grace_s`, cut the rest, end the lifespan.

        Clients that behave are gone in milliseconds: map streams end with GOAWAY. Idempotent.
        """
        if self._date_timer is not None:
            self._date_timer.cancel()
        self._routes.stopping = True
        for server in self._servers:
            server.close()
        for connection in list(self.state.connections):
            try:
                connection.shutdown()
            except Exception:  # the others are to end in order all the same
                log.exception("edge.shutdown-failed")
                abort_connection(connection)
        if not await self._all_gone(grace_s):
            self._cut()
            await self._all_gone(1.0)
        self._servers.clear()
        lifespan, self._lifespan = self._lifespan, None
        if lifespan is not None:
            try:
                async with asyncio.timeout(LIFESPAN_S):
                    await lifespan.shutdown()
            except TimeoutError:
                log.error("edge.lifespan-late", after_s=LIFESPAN_S)  # noqa: TRY400

    async def _listen(self, listener: Listener) -> asyncio.Server:
        # INVARIANT(local): uvicorn copies this into the scope of each request and WebSocket.
        app_state = {**self._lifespan.state, "local": is_local(listener)}

        def protocol() -> EdgeProtocol:
            return EdgeProtocol(self._config, self.state, app_state, self._routes)

        return await listen(listener, protocol)

    async def _all_gone(self, deadline_s: float) -> bool:
        """Wait until no connection and no handler is left; say whether that came true."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                while self.state.connections or self.state.tasks:  # noqa: ASYNC110 - see below
                    # uvicorn's registry is a plain set, which nobody can wait on.
                    await asyncio.sleep(0.01)
        return not (self.state.connections or self.state.tasks)

    def _cut(self) -> None:
        log.warning(
            "edge.cut",
            connections=len(self.state.connections),
            requests=len(self.state.tasks),
        )
        for task in list(self.state.tasks):
            task.cancel()
        for connection in list(self.state.connections):
            abort_connection(connection)

    def _stamp_date(self) -> None:
        """Keep the Date header of responses; uvicorn's own server would do it."""
        self.state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        self._date_timer = asyncio.get_running_loop().call_later(1.0, self._stamp_date)


def abort_connection(connection: Any) -> None:
    """Close a connection of any kind now: ours have ``abort()``, uvicorn's a ``transport``."""
    target = connection if hasattr(connection, "abort") else connection.transport
    target.abort()
