"""A client's place in the relay: what is on its way to it.

A connection is *flowing* or *paused*. What is for a flowing one goes to its outbox, which the
shell empties with `Relay.drain` after each chunk of input; so it never holds more than the
answers to one chunk. What is for a paused one waits in bounded lanes:

=========  =============================  ================================================
lane       holds at most                  when full
=========  =============================  ================================================
gone       one reason per peer            the newer reason replaces the older
pong       one                            the newer replaces the older
disco      32                             the oldest is dropped; apart from packets, so that
                                          traffic cannot starve path discovery, which is what
                                          ends the traffic here
packets    32                             the oldest is dropped: a late packet is worthless
=========  =============================  ================================================

Source: spec 7.3, tailscale ``derp/derpserver``.
"""

from __future__ import annotations

from collections import deque

from mergescale.kernel.keys import NodeKey
from mergescale.wire.derp import frames
from mergescale.wire.derp.frames import PeerGoneReason

#: LIMIT: tailscale's ``perClientSendQueueDepth``, once for packets and once for disco.
QUEUE_PACKETS = 32
#: LIMIT: tailscale's rate of "not here" answers per client: one a second, three at once.
NOT_HERE_PER_S = 1.0
NOT_HERE_BURST = 3.0


class Connection:
    """Made by `Relay.register`; compared by identity.

    Shells read `key` and `paused`, and use nothing else but through the `Relay`.

    Attributes:
        key: the node key that the client proved.
        paused: whether what is for this client waits in its lanes.
        heard: keys whose packets this client got; it is told when one of them disconnects.
    """

    __slots__ = (
        "_allowance",
        "_allowance_at_s",
        "_disco",
        "_gone",
        "_outbox",
        "_packets",
        "_pong",
        "_ready",
        "heard",
        "key",
        "paused",
    )

    def __init__(self, key: NodeKey, ready: list[Connection]) -> None:
        self.key = key
        self.paused = False
        self.heard: set[bytes] = set()
        # INVARIANT(ready): the relay's list of exactly the connections with a filled outbox.
        self._ready = ready
        self._outbox: list[bytes] = []
        self._packets: deque[bytes] = deque(maxlen=QUEUE_PACKETS)
        self._disco: deque[bytes] = deque(maxlen=QUEUE_PACKETS)
        self._gone: dict[bytes, PeerGoneReason] = {}
        self._pong = b""
        self._allowance = NOT_HERE_BURST
        self._allowance_at_s = 0.0

    def put(self, frame: bytes) -> None:
        """Send a frame with the next drain, whether paused or not."""
        if not self._outbox:
            self._ready.append(self)
        self._outbox.append(frame)

    def queue(self, frame: bytes, *, disco: bool) -> bool:
        """Let a packet's frame wait in its lane; return whether an older one fell out."""
        lane = self._disco if disco else self._packets
        full = len(lane) == QUEUE_PACKETS
        lane.append(frame)
        return full

    def pong(self, data: bytes) -> None:
        """Answer a ping; of several pongs that wait, only the newest is kept."""
        if self.paused:
            self._pong = frames.pong(data)
        else:
            self.put(frames.pong(data))

    def tell_gone(self, key: bytes, reason: PeerGoneReason) -> None:
        """Tell the client that `key` (32 bytes) cannot be reached here."""
        if self.paused:
            self._gone[key] = reason
        else:
            self.put(frames.peer_gone(key, reason))

    def resume(self) -> None:
        """Flow again: send what waited, most urgent first."""
        self.paused = False
        for key, reason in self._gone.items():
            self.put(frames.peer_gone(key, reason))
        if self._pong:
            self.put(self._pong)
        for frame in (*self._disco, *self._packets):
            self.put(frame)
        self._gone.clear()
        self._pong = b""
        self._disco.clear()
        self._packets.clear()

    def take(self) -> bytes:
        """Empty the outbox; the relay has taken this connection off its ready list."""
        output = b"".join(self._outbox)
        self._outbox.clear()
        return output

    def may_tell_not_here(self, now: float) -> bool:
        """Take one from the bucket of "not here" answers, if there is one at `now` (seconds)."""
        elapsed_s = max(0.0, now - self._allowance_at_s)
        self._allowance = min(NOT_HERE_BURST, self._allowance + elapsed_s * NOT_HERE_PER_S)
        self._allowance_at_s = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True
