"""The clients of one tailnet that are connected here.

The engine publishes into the hub; each open map stream holds a `Client` and drives it::

    with hub.attach(node, compression) as client:
        frame = client.first(now)
        while frame is not None:
            await write(frame)
            client.delivered()
            frame = await client.next()

A publication costs each client one bit test; those that it may concern are woken a few at a time,
so that the loop serves others between them, and each computes its own delta.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Final, Protocol, Self

from mergescale.domain.change import Change
from mergescale.domain.declaration import Deployment
from mergescale.domain.snapshot import Snapshot
from mergescale.fanout.mailbox import Mailbox
from mergescale.fanout.meter import Kind, Meter, Unmetered
from mergescale.fanout.timers import Handle, Timers
from mergescale.kernel.clock import Entropy
from mergescale.kernel.errors import NotFound
from mergescale.kernel.ids import NodeId, Revision
from mergescale.netmap.audience import audience
from mergescale.netmap.encoder import Encoder
from mergescale.netmap.parts import seal
from mergescale.wire.mapframe import KEEPALIVE_PLAIN, KEEPALIVE_ZSTD, Compression

#: LIMIT: silence before a keepalive. Go gives a stream up after 120 s and warns a little later
#: (spec 4.3); the jitter keeps clients that came together from staying together.
KEEPALIVE_S: Final = 50.0
_JITTER_S: Final = 9.0
#: LIMIT: clients woken before the loop looks for I/O again; a delta takes some 30 microseconds.
_WOKEN_AT_ONCE: Final = 64

#: LIMIT: policies whose delivery to a slow client is measured; the newest ones.
_AWAITED: Final = 8
#: LIMIT: messages beside the map that wait for a client; they answer to somebody with a deadline.
_ASIDES: Final = 4

_KEEPALIVE: Final = {
    Compression.NONE: KEEPALIVE_PLAIN,
    Compression.ZSTD: KEEPALIVE_ZSTD,
}


class Attendance(Protocol):
    """Who is told when a node's first stream opens and its last one closes."""

    def opened(self, node: NodeId) -> None:
        """Note that the node has a stream here; must not block or raise."""
        ...

    def closed(self, node: NodeId) -> None:
        """Note that the node has no stream here any more; must not block or raise."""
        ...


class Hub:
    """The streams of one tailnet; implements `state.ports.Feed`.

    Attributes:
        snapshot: the newest one published.
        encoder: makes this tailnet's messages.
        meter: is told what was made and how long it took.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        encoder: Encoder,
        attendance: Attendance,
        timers: Timers,
        entropy: Entropy,
    ) -> None:
        self.snapshot = snapshot
        self.encoder = encoder
        self.meter: Meter = Unmetered()
        self._attendance = attendance
        self._timers = timers
        self._entropy = entropy
        self._clients: dict[NodeId, Client] = {}
        self._streams: dict[NodeId, int] = {}
        self._to_wake: deque[Client] = deque()
        self._fresh: set[Client] = set()

    def __len__(self) -> int:
        return len(self._clients)

    def connected(self, node: NodeId) -> bool:
        """Say whether the node has a live stream here."""
        return node in self._clients

    def client(self, node: NodeId) -> Client | None:
        """Return the node's live stream here, if it has one."""
        return self._clients.get(node)

    def nodes(self) -> frozenset[NodeId]:
        """Return whose streams are open here."""
        return frozenset(self._clients)

    def holders(self) -> frozenset[NodeId]:
        """Return those of `nodes` whose stream holds a map under the deployment in force.

        INVARIANT(ledger): it was written to the stream, or the map did not change by it. What was
        written in this turn of the loop does not count yet: loops hand to the system at the end of
        a turn what was written in it, in any order, so an answer that counts it could overtake it.
        """
        deployment = self.snapshot.deployment
        return frozenset(
            node
            for node, client in self._clients.items()
            if client not in self._fresh and client.holds(deployment)
        )

    def wrote(self, client: Client) -> None:
        """Note that a client was written a map under another deployment in this turn of the loop."""
        if not self._fresh:
            self._timers.call_soon(self._fresh.clear)
        self._fresh.add(client)

    def publish(self, before: Snapshot, after: Snapshot, change: Change) -> None:
        """Take note of a committed batch: decide whom it may concern, and wake those."""
        if not _same_maps(self.snapshot, before):
            # The engine took in another replica's writes and then failed to commit its own.
            change |= _everything(self.snapshot, after)
            before = self.snapshot
        self.snapshot = after
        reached, slots = audience(before, after, change), after.slots.of
        in_force = None if after.deployment is before.deployment else time.perf_counter()
        for node, client in list(self._clients.items()):
            slot = slots.get(node)
            if slot is None:
                client.farewell(before)
                self._end(node)
                continue
            concerned = bool(reached >> slot & 1)
            if client.post(after, change, concerned=concerned):
                self._wake(client)
            if concerned and in_force is not None:
                client.await_policy(after.revision, in_force)

    def attach(self, node: NodeId, compression: Compression) -> Client:
        """Open a stream of the node; an earlier one of the same node ends (spec 4.1).

        Raises:
            NotFound: the tailnet has no such node.
        """
        if node not in self.snapshot.nodes:
            raise NotFound("no such node")
        self._end(node)
        client = Client(self, node, compression)
        self._clients[node] = client
        self._streams[node] = self._streams.get(node, 0) + 1
        if self._streams[node] == 1:
            self._attendance.opened(node)
        return client

    def detach(self, client: Client) -> None:
        """Forget a stream that ended; a second time does nothing."""
        if client.detached:
            return
        client.detached = True
        node = client.node
        if self._clients.get(node) is client:
            del self._clients[node]
        self._streams[node] -= 1
        if not self._streams[node]:
            del self._streams[node]
            self._attendance.closed(node)

    def close(self) -> None:
        """End every stream; for the server's shutdown."""
        for node in list(self._clients):
            self._end(node)

    def keepalive_after_s(self) -> float:
        """Return how long a stream may be silent, 50 to 59 s."""
        share = int.from_bytes(self._entropy.bytes(2), "big") / 2**16
        return KEEPALIVE_S + _JITTER_S * share

    def later(self, delay_s: float, callback: Callable[[], object]) -> Handle:
        """Make a call after some seconds."""
        return self._timers.call_later(delay_s, callback)

    def _end(self, node: NodeId) -> None:
        client = self._clients.pop(node, None)
        if client is not None:
            client.end()

    def _wake(self, client: Client) -> None:
        if not self._to_wake:
            self._timers.call_soon(self._wake_some)
        self._to_wake.append(client)

    def _wake_some(self) -> None:
        for _ in range(min(_WOKEN_AT_ONCE, len(self._to_wake))):
            self._to_wake.popleft().wake()
        if self._to_wake:
            self._timers.call_soon(self._wake_some)


class Client:
    """One open map stream; driven by one task.

    Attributes:
        node: whose stream it is.
        detached: the hub has forgotten it.
    """

    def __init__(self, hub: Hub, node: NodeId, compression: Compression) -> None:
        self.node = node
        self.detached = False
        self._hub = hub
        self._compression = compression
        self._mailbox = Mailbox(hub.snapshot)
        self._woken = asyncio.Event()
        self._ended = False
        self._silent = False
        self._asides: deque[bytes] = deque(maxlen=_ASIDES)
        self._last_words: bytes | None = None
        # Policies that concern the client and that it does not hold yet, for the meter.
        self._awaited: deque[tuple[Revision, float]] = deque(maxlen=_AWAITED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()
        self._hub.detach(self)

    def first(self, now: datetime) -> bytes:
        """Return the full map, the first message of the stream; `now` is the server's time.

        None of `next` may be sent before it: a delta that overtakes it ends the client's stream.
        """
        snapshot = self._mailbox.first()
        start = time.perf_counter()
        frame = self._hub.encoder.full(snapshot, self.node, self._compression, now)
        self._hub.meter.made(Kind.FULL, len(frame), time.perf_counter() - start)
        return frame

    async def next(self) -> bytes | None:
        """Return the next message: a delta, or a keepalive after a silence; None at the end.

        The end comes when the node was deleted, which it is told first, a newer stream of it was
        opened, or the server stops. What was returned before must have been `delivered`.
        """
        alarm = self._hub.later(self._hub.keepalive_after_s(), self._ring)
        try:
            while not self._ended:
                frame = self._pending_frame()
                if frame is not None:
                    return frame
                self._woken.clear()
                await self._woken.wait()
        finally:
            alarm.cancel()
            self._silent = False
        frame, self._last_words = self._last_words, None
        return frame

    def interject(self, message: bytes) -> None:
        """Send a message that is no step of the map, such as a PingRequest (spec 6.3), soon.

        Args:
            message: tailcfg.MapResponse as JSON; must change nothing that a full map tells.
        """
        self._asides.append(message)
        self._woken.set()

    @property
    def revision(self) -> Revision | None:
        """The revision whose map the client holds; None before its first one was delivered."""
        return self._mailbox.revision

    def holds(self, deployment: Deployment | None) -> bool:
        """Say whether the client holds a map under this very deployment."""
        return self._mailbox.holds(deployment)

    def delivered(self) -> None:
        """Say that the message returned last has been written whole."""
        if self._mailbox.delivered():
            self._hub.wrote(self)
        self._note_reached()

    def post(self, latest: Snapshot, change: Change, *, concerned: bool) -> bool:
        """Note a publication; return whether the stream has to be woken."""
        return self._mailbox.post(latest, change, concerned=concerned)

    def await_policy(self, revision: Revision, in_force: float) -> None:
        """Measure how long it takes until the client holds this revision.

        Args:
            revision: the policy's.
            in_force: when it came into force, by ``time.perf_counter``.
        """
        self._awaited.append((revision, in_force))

    def wake(self) -> None:
        """Let the stream look at its mailbox."""
        self._woken.set()

    def farewell(self, last: Snapshot) -> None:
        """Have the node told that it is gone before the stream ends; `last` still holds it."""
        self._last_words = self._hub.encoder.farewell(last, self.node, self._compression)

    def end(self) -> None:
        """Let `next` return None from now on."""
        self._ended = True
        self._woken.set()

    def _pending_frame(self) -> bytes | None:
        if self._asides:
            start = time.perf_counter()
            aside = seal([self._asides.popleft()], self._compression)
            return self._made(Kind.ASIDE, aside, start)
        if self._mailbox.waiting:
            step = self._mailbox.take()
            start = time.perf_counter()
            frame = self._hub.encoder.delta(
                step.sent, step.now, step.change, self.node, self._compression
            )
            if frame is not None:
                return self._made(Kind.DELTA, frame, start)
            self.delivered()
        if not self._silent:
            return None
        return self._made(Kind.KEEPALIVE, _KEEPALIVE[self._compression], time.perf_counter())

    def _made(self, kind: Kind, frame: bytes, start: float) -> bytes:
        self._hub.meter.made(kind, len(frame), time.perf_counter() - start)
        return frame

    def _note_reached(self) -> None:
        revision = self._mailbox.revision
        while self._awaited and revision is not None and self._awaited[0][0] <= revision:
            self._hub.meter.reached(time.perf_counter() - self._awaited.popleft()[1])

    def _ring(self) -> None:
        self._silent = True
        self._woken.set()


def _same_maps(told: Snapshot, before: Snapshot) -> bool:
    """Say whether no map can differ between the two; batches without a change are not published."""
    return told is before or (
        told.nodes is before.nodes
        and told.users is before.users
        and told.presence is before.presence
        and told.primaries is before.primaries
        and told.deployment is before.deployment
        and told.access is before.access
    )


def _everything(before: Snapshot, after: Snapshot) -> Change:
    return Change(
        nodes=frozenset(before.nodes.keys() | after.nodes.keys()),
        users=frozenset(before.users.keys() | after.users.keys()),
        access=True,
        tailnet=True,
    )
