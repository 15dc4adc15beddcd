"""The first request head of every socket, and who owns the socket after it.

HTTP/1.1 goes to the outer ASGI application by way of uvicorn. A request that asks to upgrade to a
protocol somebody claimed (``/ts2021``, ``/derp``) leaves HTTP: its socket goes to a `Takeover`,
with whatever bytes were read behind the head. An upgrade that nobody claimed is ignored, as RFC
9110 7.8 allows, and the request is answered as if it had not asked.

uvicorn has no public way to give a socket away, so `EdgeProtocol` uses private hooks of
``HttpToolsProtocol``; they are listed in `UVICORN_HOOKS`, and a contract test pins them.

What must hold:

* INVARIANT(bytes): bytes read behind the head of an upgrade reach its takeover (spec 9.3,
  pitfall 4).
* INVARIANT(room): there are at most `Routes.sockets` connections, and a newcomer is served all
  the same while any of them waits for a request or to be read: the one that waits longest makes
  room.
* INVARIANT(message): a request, trailers and all, has a deadline and a size, so that what a
  client drips or pours behind its head keeps neither a handler nor memory.
* INVARIANT(unread): an answer that is not read keeps neither a socket nor memory for long.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from mergescale.fanout.turns import Turns
from mergescale.server.listeners import watch_for_dead_peer
from mergescale.server.proxies import Proxies
from mergescale.server.unread import Outlet, Unread, in_pieces
from mergescale.wire.httphead import Rejection, RequestHead, split_target

#: Private names of uvicorn 0.54's ``HttpToolsProtocol`` that this module calls or overrides.
UVICORN_HOOKS = (
    "_get_upgrade",
    "_should_upgrade",
    "_should_upgrade_to_ws",
    "_unset_keepalive_if_required",
    "handle_websocket_upgrade",
    "on_header",
    "on_headers_complete",
    "on_message_begin",
    "on_message_complete",
    "on_response_complete",
    "send_400_response",
)
#: Its attributes that this module reads or sets.
UPGRADE_ATTRIBUTES = (
    "app",
    "client",
    "connections",
    "cycle",
    "flow",
    "headers",
    "loop",
    "parser",
    "scheme",
    "server_state",
    "transport",
)
#: LIMIT: as nginx and others; a request head of a real client has about 600 bytes.
HEAD_BYTES = 32 << 10
#: LIMIT: a head takes one round trip; without a deadline, silent sockets would pile up.
HEAD_S = 20.0
#: LIMIT: a body, its trailers and what is around them. The application refuses bodies at a small
#: part of that, but the parser would go on to read, and to keep each trailer whole.
MESSAGE_BYTES = 4 << 20
#: LIMIT: nginx waits as long for each piece of a body; ours are small, so it is for all of one.
MESSAGE_S = 60.0
#: LIMIT: curl offers h2c in each request, one at a time; each one ignored copies what follows it.
IGNORED_UPGRADES = 16


class Takeover(Protocol):
    """Takes a socket over from HTTP.

    The edge calls it with the head of a request that it claimed (see `Claim`). It answers with

    * a protocol, not connected yet, with the methods ``shutdown()`` (end in order) and ``abort()``
      (end now). The edge makes it the transport's protocol, calls ``connection_made(transport)``,
      then ``data_received`` with the bytes behind the head, if any. The protocol writes the 101
      itself, or none. It puts itself into ``registry.connections`` in ``connection_made`` and
      removes itself in ``connection_lost``; its long-lived tasks are in ``registry.tasks``;
    * or a `Rejection`, which the edge sends before it closes.

    It must not block; anything slow belongs into the protocol.
    """

    def __call__(
        self, request: RequestHead, registry: ServerState, /
    ) -> asyncio.Protocol | Rejection:
        """Answer one upgrade."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Which upgrades a takeover is for.

    Attributes:
        path: origin form without query.
        upgrade: the token of the Upgrade header, lower case.
        method: None for any.
    """

    path: str
    upgrade: str
    method: str | None = None


@dataclass(slots=True)
class Routes:
    """What `EdgeProtocol` needs besides uvicorn's own arguments.

    Attributes:
        takeovers: who gets which upgrades.
        head_s: seconds a request head may take.
        message_s: seconds from the end of a head to the end of the message.
        sockets: connections that there may be, upgraded ones included.
        proxies: whose word about the client is believed.
        turns: paces takeovers, as everybody comes back at once after a restart.
        stopping: the edge closes; a connection that was being accepted just then comes too late.
        unread: what was answered and not read yet.
        waiting: those between accept and head, or between answer and next head; the one that
            waits longest is first.
    """

    takeovers: Mapping[Claim, Takeover]
    head_s: float = HEAD_S
    message_s: float = MESSAGE_S
    sockets: int = sys.maxsize
    proxies: Proxies = field(default_factory=lambda: Proxies(()))
    stopping: bool = False
    turns: Turns = field(default_factory=Turns)
    unread: Unread = field(default_factory=Unread)
    waiting: dict[EdgeProtocol, None] = field(default_factory=dict)


class EdgeProtocol(HttpToolsProtocol):
    """HTTP/1.1 until an upgrade takes the socket away."""

    def __init__(
        self, config: Config, state: ServerState, app_state: dict[str, Any], routes: Routes
    ) -> None:
        super().__init__(config=config, server_state=state, app_state=app_state)
        self._routes = routes
        self._takeover: Takeover | None = None
        self._websocket = False
        self._head_open = True
        self._read_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the deadline of the first head; make room if there is none."""
        super().connection_made(transport)  # type: ignore[arg-type] # uvicorn narrows it
        tls = self.scheme == "https"
        self._outlet = Outlet(self.transport, self._routes.unread, self.displace, tls=tls)
        if tls:
            self.app = in_pieces(self.app)
        watch_for_dead_peer(transport.get_extra_info("socket"))
        self._end_in(self._routes.head_s)
        self._routes.waiting[self] = None
        if len(self.connections) > self._routes.sockets:
            self._make_room()
        if self._routes.stopping:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._routes.waiting.pop(self, None)
        self._stop_deadline()
        self._outlet.closed()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Hold the application back; its client has to read."""
        super().pause_writing()
        self._outlet.written()

    def resume_writing(self) -> None:
        """Let the application go on."""
        super().resume_writing()
        self._outlet.shrunk()

    def _make_room(self) -> None:
        """End whoever waits longest for a request, or does not read; if all are busy, this one."""
        oldest = next(iter(self._routes.waiting))
        if oldest is not self or not self._routes.unread.end_one():
            oldest.displace()

    def displace(self) -> None:
        """End now, so that somebody else has room. INVARIANT(room)."""
        self._routes.waiting.pop(self, None)
        # Not only in `connection_lost`, which comes later than the next newcomer.
        self.connections.discard(self)
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse; at the end of an upgrade's head, decide who gets the rest."""
        self._unset_keepalive_if_required()
        for _ in range(IGNORED_UPGRADES):
            data = self._feed(data)
            if not data:
                return
        self._reject(Rejection(400, "too many upgrades in one write"))

    def _feed(self, data: bytes) -> bytes:
        """Parse `data`; return what is to be parsed again."""
        self._read_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        else:
            self._check_size()
        return b""

    def _check_size(self) -> None:
        if self._head_open and self._read_bytes > HEAD_BYTES:
            self._reject(Rejection(431, "the request head is too long"))
        elif self._read_bytes > MESSAGE_BYTES:
            # The answer may be on its way already, so there is nothing more to say.
            self.transport.abort()

    # ------------------------------------------------------------------ the head

    def on_message_begin(self) -> None:
        """Begin a head, with its own deadline and size."""
        super().on_message_begin()
        self._takeover, self._websocket = None, False
        self._head_open, self._read_bytes = True, 0
        if self._deadline is None:
            self._end_in(self._routes.head_s)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header; trailers, which nobody here reads, are dropped."""
        if self._head_open:
            super().on_header(name, value)

    def on_message_complete(self) -> None:
        """End the deadline; a whole request may take as long to answer as it likes."""
        self._stop_deadline()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, unless one has come already."""
        super().on_response_complete()
        self._outlet.written()
        if not self.transport.is_closing() and self.cycle.response_complete:
            self._routes.waiting[self] = None

    def on_headers_complete(self) -> None:
        """Normalise the target and decide, once, who gets the socket."""
        self._head_open = False
        self._routes.waiting.pop(self, None)
        self._end_in(self._routes.message_s)
        authority, self.url = split_target(self.url)
        if authority:
            # SPEC(RFC 9112 3.2.2): an absolute target overrides the Host header.
            others = [pair for pair in self.headers if pair[0] != b"host"]
            self.headers[:] = [(b"host", authority), *others]
        if self.parser.should_upgrade() and self._may_upgrade_now():
            self._takeover = self._claimed()
            self._websocket = self._takeover is None and self._asks_for_websocket()
        super().on_headers_complete()

    def _may_upgrade_now(self) -> bool:
        """HTTP/1.0 cannot upgrade, nor can a request behind one that is not answered yet."""
        before: RequestResponseCycle | None = self.cycle  # None before the first request
        waiting = before is not None and not before.response_complete
        return self.parser.get_http_version() == "1.1" and not waiting

    def _claimed(self) -> Takeover | None:
        upgrade = (self._get_upgrade() or b"").decode("latin-1").strip()
        path = unquote(self.url.partition(b"?")[0].decode("latin-1"))
        method = self.parser.get_method().decode("latin-1")
        takeovers = self._routes.takeovers
        exact = takeovers.get(Claim(path, upgrade, method))
        return exact or takeovers.get(Claim(path, upgrade))

    def _asks_for_websocket(self) -> bool:
        return self._get_upgrade() == b"websocket" and self._should_upgrade_to_ws()

    def _should_upgrade(self) -> bool:
        """Keep the parent from dispatching: `_upgrade` does it, whatever it will be.

        The parent asks several times per request; the answer must not change in between.
        """
        return True

    # ------------------------------------------------------------------ after the head

    def _upgrade(self, rest: bytes) -> bytes:
        """Give the socket to whoever it is for; return what is still HTTP."""
        if self._takeover is not None:
            self._hand_over_in_turn(self._takeover, rest)
        elif self._websocket and not all(map(_is_plain, self.headers)):
            # wsproto decodes these, and would fail with the connection half handed over.
            self._reject(Rejection(400, "a header of the handshake is not ascii"))
        elif self._websocket:
            self._stop_deadline()
            self._outlet.closed()
            # RFC 6455 4.1: a client sends nothing before the answer, so `rest` is empty.
            self.handle_websocket_upgrade()
        elif self.parser.get_method() == b"CONNECT":
            self._reject(Rejection(405, "this is no proxy"))
        else:
            return self._without_upgrade() + rest
        return b""

    def _hand_over_in_turn(self, takeover: Takeover, rest: bytes) -> None:
        """Hand over now, or, when many come at once, with nothing read until then."""
        if not self._routes.turns.take(partial(self._hand_over, takeover, rest)):
            self.transport.pause_reading()

    def _hand_over(self, takeover: Takeover, rest: bytes) -> None:
        self._stop_deadline()
        if self.transport.is_closing():
            return
        self.transport.resume_reading()
        answer = takeover(self._request_head(), self.server_state)
        if isinstance(answer, Rejection):
            self._reject(answer)
            return
        self.connections.discard(self)
        self._outlet.closed()
        self.parser = None  # type: ignore[assignment] # breaks the cycle through its callbacks
        self.transport.set_protocol(answer)
        answer.connection_made(self.transport)
        if self.flow.write_paused:
            # asyncio tells a protocol once, and it told the one before.
            answer.pause_writing()
        if rest and not self.transport.is_closing():
            answer.data_received(rest)

    def _without_upgrade(self) -> bytes:
        """Return the same head without its Upgrade header, for a fresh parser.

        The old parser has stopped at the end of the head and would take a body for the next
        request.
        """
        version = self.parser.get_http_version().encode("ascii")
        head = [self.parser.get_method(), b" ", self.url, b" HTTP/", version, b"\r\n"]
        for name, value in self.headers:
            if name != b"upgrade":
                head += [name, b": ", value, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        return b"".join([*head, b"\r\n"])

    def _request_head(self) -> RequestHead:
        path, _, query = self.url.partition(b"?")
        proxies = self._routes.proxies
        return RequestHead(
            method=self.parser.get_method().decode("latin-1"),
            path=unquote(path.decode("latin-1")),
            query=query,
            headers=tuple(self.headers),
            client=proxies.client(self.client, self.headers),
            tls=proxies.tls(self.client, self.headers, direct=self.scheme == "https"),
        )

    def _reject(self, rejection: Rejection) -> None:
        self.transport.write(rejection.encode())
        self.transport.close()

    def _end_in(self, delay_s: float) -> None:
        self._stop_deadline()
        self._deadline = self.loop.call_later(delay_s, self._is_late)

    def _is_late(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _is_plain(header: tuple[bytes, bytes]) -> bool:
    """Say whether wsproto can read a header: it decodes some, and h11 passes all of them on."""
    name, value = header
    return value.isascii() or not name.startswith((b"sec-websocket-", b"host"))
