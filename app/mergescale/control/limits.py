"""What one client may cost: sizes, deadlines and a budget against floods.

Any machine key completes a handshake (spec 2.9), so everything here holds for strangers.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a connection. The defaults are right for production; tests shorten deadlines.

    Attributes:
        request_body_bytes: longest request body; more is answered 413.
            LIMIT: headscale reads 1 MiB as well; a register or map request is a few KiB.
        bodies_bytes: bodies of all open requests of a connection together.
            LIMIT: a real client has one or two requests under way; without this, 128 streams of
            1 MiB each would be 128 MiB for one stranger.
        streams: concurrent requests announced to the client.
            LIMIT: spec 2.7 asks for at least 100; Go assumes 100 until it hears otherwise.
        header_list_bytes: header list of one request. LIMIT: the biggest seen has about 600.
        body_s: seconds a request body may take from one chunk to the next.
        stall_s: seconds without any progress of a write before the connection is given up.
            LIMIT: half of the 120 s after which Go itself reopens a silent map stream.
        proof_s: seconds from the response to the first record that decrypts. Only that record
            proves the machine key, as an initiation can be replayed.
        idle_s: seconds without bytes and without open requests before a connection is closed. Go
            dials again when it needs to.
        orphan_s: seconds a handler may go on after its client is gone, so that what it began in
            the store can end in good order.
        stranger_idle_s: the same for a machine without a node: it has nothing to come back for.
            LIMIT: a login is waited for in an open request, so a person may take longer.
        pending_handshakes: connections of the whole process that wait for their proof; beyond
            it the oldest is cut.
            LIMIT: a thousand clients that reconnect after a restart fit several times over.
        pending_per_place: those of them from one address, or one IPv6 /64.
        strangers: connections of the whole process that proved a machine key which has no node;
            beyond it one of the place with most of them is cut, rather one without a request.
        strangers_per_place: those of them from one address, or one IPv6 /64.
            LIMIT: machines with a node do not count, so that this is for the first minute of a
            whole floor behind one NAT.
        held_bytes: plaintext kept for a client whose socket is full.
            LIMIT: only answers to control frames get here, as handlers wait; megabytes of them
            are an attack.
    """

    request_body_bytes: int = 1 << 20
    bodies_bytes: int = 4 << 20
    streams: int = 128
    header_list_bytes: int = 32 << 10
    body_s: float = 30.0
    stall_s: float = 60.0
    proof_s: float = 10.0
    idle_s: float = 900.0
    stranger_idle_s: float = 60.0
    orphan_s: float = 5.0
    pending_handshakes: int = 4096
    pending_per_place: int = 2048
    strangers: int = 2048
    strangers_per_place: int = 256
    held_bytes: int = 256 << 10


class OverheadBudget:
    """A token bucket, in bytes, for all that a client sends besides request bodies.

    Counting bytes catches every flood with one number: PING, SETTINGS, PRIORITY, empty DATA,
    WINDOW_UPDATE of dead streams and kinds of frames nobody has thought of yet cost 9 bytes or
    more each. A reset costs `RESET_COST` on top, as it may undo a request that already ran.

    LIMIT: `BURST` is about five hundred request heads at once; `RATE_PER_S` is a hundred requests
    per second for as long as one likes, where a real client makes a handful per minute. Data sent
    to the client earns 1/32 back: a Go client acknowledges each 4 KiB with two WINDOW_UPDATEs of
    13 bytes, which is 1/157.
    """

    BURST = 256 << 10
    RATE_PER_S = 32 << 10
    EARNED_SHIFT = 5
    RESET_COST = 2 << 10

    __slots__ = ("_at", "_left")

    def __init__(self, now: float) -> None:
        self._left = float(self.BURST)
        self._at = now

    def spend(self, size_bytes: int, now: float) -> bool:
        """Take `size_bytes` at `now` (monotonic seconds); return False when they are not there."""
        self._left = min(
            float(self.BURST), self._left + (now - self._at) * self.RATE_PER_S - size_bytes
        )
        self._at = now
        return self._left >= 0

    def earn(self, sent_bytes: int) -> None:
        """Credit the acknowledgements that `sent_bytes` of data will cause."""
        self._left += sent_bytes >> self.EARNED_SHIFT
