"""All clients of the relay: who may connect, who is connected, and how packets get to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from mergescale.kernel.clock import Entropy
from mergescale.kernel.keys import NodeKey, PrivateKey
from mergescale.relay.limits import Limits
from mergescale.wire.derp import Connection, Counters, Relay, ServerSession, node_key
from mergescale.wire.derp.frames import NONCE_BYTES

log = structlog.get_logger()

#: Says whether a node with this key may use the relay now. It is asked on the event loop, so it
#: answers from memory; it must read fresh state, as a new node comes here right after its first
#: map (spec 7.6).
Admission = Callable[[NodeKey], bool]


class Member(Protocol):
    """The end of a connection that has a socket: a `relay.channel.Channel`."""

    def write(self, data: bytes) -> None:
        """Send `data`; never raises, whatever became of the socket."""

    def abort(self) -> None:
        """End the connection now."""


@dataclass(slots=True)
class Doors:
    """Who came, for metrics.

    Attributes:
        pending: connections that were not admitted yet.
        admitted: let in since the start.
        refused: turned away since the start: their key is unknown, or the admission failed.
        fast: started without an HTTP answer since the start, as they know us by our certificate.
    """

    pending: int = 0
    fast: int = 0
    admitted: int = 0
    refused: int = 0


class DerpService:
    """One region's relay; every method runs on the event loop and none of them waits.

    Attributes:
        limits: bounds of each connection.
        relay: the core. Whoever calls it calls `flush` after that.
        doors: who came.
    """

    def __init__(
        self,
        key: PrivateKey,
        admission: Admission,
        entropy: Entropy,
        limits: Limits | None = None,
    ) -> None:
        """Start empty.

        Args:
            key: the relay's private key; it must survive restarts, as its certificate tells it.
            admission: who may connect.
            entropy: for nonces and jitter.
            limits: bounds; None for the defaults.
        """
        self.limits = limits or Limits()
        self.relay = Relay()
        self.doors = Doors()
        self._key = key
        self._admission = admission
        self._entropy = entropy
        # INVARIANT(members): exactly the connections registered with `relay`.
        self._members: dict[Connection, Member] = {}
        # Not admitted yet, in the order of arrival.
        self._strangers: dict[Member, None] = {}

    @property
    def public_key(self) -> NodeKey:
        """The relay's public key."""
        return node_key(self._key)

    @property
    def counters(self) -> Counters:
        """What was forwarded and dropped."""
        return self.relay.counters

    @property
    def connected(self) -> int:
        """How many admitted connections there are."""
        return len(self._members)

    def session(self) -> ServerSession:
        """Return the protocol state of a new connection."""
        return ServerSession(self._key)

    def nonce(self) -> bytes:
        """Return 24 random bytes for one box."""
        return self._entropy.bytes(NONCE_BYTES)

    def keepalive_every_s(self) -> float:
        """Return seconds between the KeepAlives of one connection, jitter included."""
        share = int.from_bytes(self._entropy.bytes(4), "big") / (1 << 32)
        return self.limits.keepalive_s + share * self.limits.keepalive_jitter_s

    def meet(self, member: Member) -> None:
        """Note a connection that did not say yet who it is; too many, and the oldest is cut.

        A client says it in one round trip, so those who say nothing drive out each other, where
        refusing newcomers would let them lock the door.
        """
        while len(self._strangers) >= self.limits.pending:
            oldest = next(iter(self._strangers))
            self.met(oldest)
            oldest.abort()
        self._strangers[member] = None
        self.doors.pending = len(self._strangers)

    def met(self, member: Member) -> None:
        """Note that a connection is no stranger any more: admitted, refused or gone."""
        self._strangers.pop(member, None)
        self.doors.pending = len(self._strangers)

    def admits(self, key: NodeKey) -> bool:
        """Ask the admission; whatever goes wrong there is a no."""
        try:
            return self._admission(key) is True
        except Exception:  # fail closed, and for one client only
            log.exception("relay.admission-failed")
            return False

    def join(self, key: NodeKey, member: Member) -> Connection:
        """Register an admitted client, which has been sent its ServerInfo."""
        connection = self.relay.register(key)
        self._members[connection] = member
        self.doors.admitted += 1
        oldest, *others = self.relay.connections(key)
        if len(others) >= self.limits.connections_per_key:
            self._members[oldest].abort()
        return connection

    def leave(self, connection: Connection) -> None:
        """Forget a client and tell those who heard from it."""
        del self._members[connection]
        self.relay.unregister(connection)
        self.flush()

    def flush(self) -> None:
        """Write what the relay has for whom, one write per receiver."""
        for connection, data in self.relay.drain():
            # A member whose abort was caused by a write before this one is gone already.
            if (member := self._members.get(connection)) is not None:
                member.write(data)

    def drop(self, key: NodeKey) -> int:
        """End all connections of a key, as when its node was deleted; return how many."""
        connections = self.relay.connections(key)
        for connection in connections:
            self._members[connection].abort()
        return len(connections)

    def recheck(self) -> int:
        """Ask the admission about everybody again and end who lost it; return how many.

        It asks once per key, so it may be called after each change that takes nodes away.
        """
        keys = {connection.key for connection in self._members}
        return sum(self.drop(key) for key in keys if not self.admits(key))
