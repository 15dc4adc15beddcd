"""The relay's core: all connections of one process, and who of them gets which packet.

Source: spec 7.3, tailscale ``derp/derpserver``.
"""

from __future__ import annotations

from dataclasses import dataclass

from mergescale.kernel.errors import LocalProtocolError
from mergescale.kernel.keys import KEY_BYTES, NodeKey
from mergescale.wire.derp import frames
from mergescale.wire.derp.connection import Connection
from mergescale.wire.derp.frames import PeerGoneReason, is_disco


@dataclass(slots=True)
class Counters:
    """What the relay did since it started, for metrics.

    Attributes:
        packets: passed on or queued, those that fell out of a queue later included.
        packet_bytes: their size, without frame headers and keys.
        dropped_full: fell out of the queue of a receiver that was too slow.
        dropped_unknown: nobody is connected under their destination.
    """

    packets: int = 0
    packet_bytes: int = 0
    dropped_full: int = 0
    dropped_unknown: int = 0


class Relay:
    """All connections, by node key. Output of every method is fetched with `drain`.

    Methods that take a connection raise `LocalProtocolError` when it is not registered.

    Attributes:
        counters: what was forwarded and dropped.
    """

    __slots__ = ("_active", "_by_key", "_listeners", "_ready", "counters")

    def __init__(self) -> None:
        self.counters = Counters()
        # Keys are plain bytes in here: one is cut out of every packet.
        self._by_key: dict[bytes, list[Connection]] = {}
        # INVARIANT(active): for each key of `_by_key`, the one connection that gets its packets.
        self._active: dict[bytes, Connection] = {}
        # INVARIANT(listeners): source key to connections that got its packets; the inverse of
        # `Connection.heard`.
        self._listeners: dict[bytes, set[Connection]] = {}
        # INVARIANT(ready): exactly the connections with a filled outbox, once each.
        self._ready: list[Connection] = []

    def register(self, key: NodeKey) -> Connection:
        """Add a connection under a proven key; it becomes the one that gets its packets.

        An older connection of the same key stays, and is active again once it sends something.
        """
        connection = Connection(key, self._ready)
        self._by_key.setdefault(key.raw, []).append(connection)
        self._active[key.raw] = connection
        return connection

    def unregister(self, connection: Connection) -> None:
        """Remove a connection; with the last one of its key, tell who heard from that key."""
        key = connection.key.raw
        others = self._sharing(connection)
        others.remove(connection)
        if connection.take():
            self._ready.remove(connection)
        for source in connection.heard:
            self._listeners[source].discard(connection)
            if not self._listeners[source]:
                del self._listeners[source]
        if others:
            if self._active[key] is connection:
                self._active[key] = others[-1]
            return
        del self._by_key[key], self._active[key]
        for listener in self._listeners.pop(key, ()):
            listener.heard.discard(key)
            listener.tell_gone(key, PeerGoneReason.DISCONNECTED)

    def connections(self, key: NodeKey) -> tuple[Connection, ...]:
        """Return the connections of a key, oldest first; to close them when it loses access."""
        return tuple(self._by_key.get(key.raw, ()))

    def forward(self, source: Connection, payloads: list[bytes], now: float) -> None:
        """Pass packets on.

        Args:
            source: whose packets they are.
            payloads: each a destination key of 32 bytes and a packet (`PacketsReceived`).
            now: seconds of a monotonic clock, for the rate of "not here" answers.
        """
        self.touch(source)
        key = source.key.raw
        for payload in payloads:
            target = self._active.get(payload[:KEY_BYTES])
            if target is None:
                self._miss(source, payload, now)
                continue
            if key not in target.heard:
                target.heard.add(key)
                self._listeners.setdefault(key, set()).add(target)
            self.counters.packets += 1
            self.counters.packet_bytes += len(payload) - KEY_BYTES
            frame = frames.recv_packet(key, payload)
            if not target.paused:
                target.put(frame)
            elif target.queue(frame, disco=is_disco(payload[KEY_BYTES:])):
                self.counters.dropped_full += 1

    def ping(self, connection: Connection, data: bytes) -> None:
        """Answer a ping with its 8 bytes."""
        self.touch(connection)
        connection.pong(data)

    def touch(self, connection: Connection) -> None:
        """Note that a client sent something: of several with one key, the last writer is active.

        Call it for events that come to no other method here.
        """
        if self._active.get(connection.key.raw) is not connection:
            self._sharing(connection)
            self._active[connection.key.raw] = connection

    def keep_alive(self, connection: Connection) -> None:
        """Send a KeepAlive, unless the client is paused: then bytes wait for it anyway."""
        self._sharing(connection)
        if not connection.paused:
            connection.put(frames.KEEP_ALIVE)

    def pause(self, connection: Connection) -> None:
        """Let what is for this client wait: its socket takes no more for now."""
        self._sharing(connection)
        connection.paused = True

    def resume(self, connection: Connection) -> None:
        """Let what waited for this client go out with the next `drain`."""
        self._sharing(connection)
        connection.resume()

    def drain(self) -> list[tuple[Connection, bytes]]:
        """Return what to write to whom now, and forget it."""
        writes = [(connection, connection.take()) for connection in self._ready]
        self._ready.clear()
        return writes

    def _sharing(self, connection: Connection) -> list[Connection]:
        """Return the connections that share its key, itself among them."""
        connections = self._by_key.get(connection.key.raw, [])
        if connection not in connections:
            raise LocalProtocolError("the connection is not registered")
        return connections

    def _miss(self, source: Connection, payload: bytes, now: float) -> None:
        """Drop a packet for nobody.

        Only path discovery gets an answer: a WireGuard session retries by itself, and an answer
        to each packet would be as much traffic again.
        """
        self.counters.dropped_unknown += 1
        if is_disco(payload[KEY_BYTES:]) and source.may_tell_not_here(now):
            source.tell_gone(payload[:KEY_BYTES], PeerGoneReason.NOT_HERE)
