"""What one client of the relay may cost: sizes and deadlines."""

from __future__ import annotations

from dataclasses import dataclass

from mergescale.wire.derp import (
    HANDSHAKE_TIMEOUT_S,
    KEEPALIVE_JITTER_S,
    KEEPALIVE_S,
    WRITE_TIMEOUT_S,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a connection. The defaults are right for production; tests shorten deadlines.

    Attributes:
        handshake_s: seconds until an admitted ClientInfo. LIMIT: spec 7.3.
        keepalive_s: seconds between KeepAlives. LIMIT: spec 7.3; clients give up after 120.
        keepalive_jitter_s: up to so many are added, anew for each connection, so that clients
            that came back together after a restart are not all written to at once.
        stall_s: seconds in which a full socket may take nothing. LIMIT: spec 7.3.
        message_stall_s: the same behind a WebSocket, where progress is seen only when the HTTP
            server's own buffer, half a megabyte with TLS, has been emptied.
        high_water_bytes: written bytes from which a client is paused, so that packets wait in
            the relay's lanes, where the oldest are dropped. LIMIT: enough for 200 Mbit/s at 5 ms
            per turn of the loop; much more would only make packets late.
        pending: clients of the whole process that have not been admitted yet; beyond it the
            oldest is cut.
            LIMIT: each may make us buffer a ClientInfo of 256 KiB.
        connections_per_key: connections of one node key; the oldest one is cut.
            LIMIT: a client has one per region and for moments two, when its network changes.
    """

    handshake_s: float = HANDSHAKE_TIMEOUT_S
    keepalive_s: float = KEEPALIVE_S
    keepalive_jitter_s: float = KEEPALIVE_JITTER_S
    stall_s: float = WRITE_TIMEOUT_S
    message_stall_s: float = 20.0
    high_water_bytes: int = 128 << 10
    pending: int = 1024
    connections_per_key: int = 8
