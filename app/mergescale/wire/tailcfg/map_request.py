"""``POST /machine/map``, the request: tailcfg.MapRequest (spec 4.1)."""

from __future__ import annotations

import re
from datetime import datetime
from enum import Enum
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

from mergescale.kernel.keys import DiscoKey, NodeKey
from mergescale.wire.tailcfg.decode import Shape, decode_request, instant, key, listed, texted
from mergescale.wire.tailcfg.hostinfo import Hostinfo, read_hostinfo
from mergescale.wire.tailcfg.names import Wire
from mergescale.wire.tailcfg.register import CapabilityVersion

#: LIMIT: endpoints kept of a node; every peer gets them, and clients have about ten.
MAX_ENDPOINTS: Final = 64

_ENDPOINT: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([0-9.]{7,15})):([0-9]{1,5})")


class MapKind(Enum):
    """What a map request wants (spec 4.1, combinations)."""

    #: Stream: a full map, then deltas. WIRE(capver 68): applies nothing it carries.
    POLL = "poll"
    #: Applies hostinfo, endpoints, disco key; the answer is 200 with an empty body.
    LITE = "lite"
    #: One full map, nothing applied.
    READ = "read"
    #: Applies like `LITE`, then one full map.
    FULL = "full"

    @property
    def applies(self) -> bool:
        """Say whether what the request carries is to be stored."""
        return self in {MapKind.LITE, MapKind.FULL}


class MapRequest(Wire, frozen=True, kw_only=True):
    """tailcfg.MapRequest.

    Attributes:
        version: capability version.
        compress: ``zstd`` or empty; to be honoured exactly.
        keep_alive: the client wants keepalives; every stream gets them anyway.
        node_key: who asks; zero when absent, which must be refused.
        disco_key: zero in very early requests.
        hardware_attestation_key: ``hwattestpub:`` text, from capability version 130.
        hardware_attestation_key_signature: over time and node key.
        hardware_attestation_key_signature_timestamp: when it was made.
        stream: long poll.
        hostinfo: None when absent, which must not clear what is known.
        map_session_handle: a resume offer; may be ignored.
        map_session_seq: the same.
        endpoints: ``ip:port`` as canonical text; malformed, zoned and IPv6 link-local ones were
            dropped, at most `MAX_ENDPOINTS` kept.
        endpoint_types: parallel to what was received, not to `endpoints`.
        tka_head: tailnet lock head.
        read_only: deprecated; apply nothing.
        omit_peers: no peers wanted.
        debug_flags: e.g. ``warn-ip-forwarding-off``.
        connection_handle_for_test: as named.
    """

    version: CapabilityVersion = 0
    compress: str = ""
    keep_alive: bool = False
    node_key: NodeKey = NodeKey.zero()
    disco_key: DiscoKey = DiscoKey.zero()
    hardware_attestation_key: str = ""
    hardware_attestation_key_signature: bytes = b""
    hardware_attestation_key_signature_timestamp: datetime | None = None
    stream: bool = False
    hostinfo: Hostinfo | None = None
    map_session_handle: str = ""
    map_session_seq: int = 0
    endpoints: tuple[str, ...] = ()
    endpoint_types: tuple[int, ...] = ()
    tka_head: str = ""
    read_only: bool = False
    omit_peers: bool = False
    debug_flags: tuple[str, ...] = ()
    connection_handle_for_test: str = ""

    @property
    def kind(self) -> MapKind:
        """Return which of the four conversations this request opens."""
        if self.stream:
            return MapKind.POLL
        if self.read_only:
            return MapKind.READ
        return MapKind.LITE if self.omit_peers else MapKind.FULL

    @property
    def wants_zstd(self) -> bool:
        """Say whether frames are zstd; Go always asks, Rust cannot read it."""
        return self.compress == "zstd"


def _endpoints(value: Any) -> list[str]:
    # Matched before the cache sees it: a cache of what strangers sent would keep megabytes.
    formed = (text for item in listed(value) if _ENDPOINT.fullmatch(text := texted(item)))
    kept = (_endpoint(text) for text in formed)
    return [text for text in kept if text][:MAX_ENDPOINTS]


@lru_cache(maxsize=8192)
def _endpoint(text: str) -> str:
    """Return an address and port as Go and Rust write it, empty if no peer could use it."""
    found = _ENDPOINT.fullmatch(text)
    if found is None:
        return ""
    port = int(found[3])
    try:
        address = ip_address(found[1] or found[2])
    except ValueError:
        return ""
    if not 0 < port <= 65535 or address.is_unspecified or address.is_multicast:
        return ""
    if isinstance(address, IPv6Address):
        return "" if address.is_link_local or found[2] else f"[{address}]:{port}"
    return "" if found[1] else f"{address}:{port}"


_MAP: Final = Shape(
    MapRequest,
    {
        "node_key": key(NodeKey),
        "disco_key": key(DiscoKey),
        "hardware_attestation_key_signature_timestamp": instant,
        "hostinfo": read_hostinfo,
        "endpoints": _endpoints,
    },
)


def decode_map_request(body: bytes) -> MapRequest:
    """Return the request in a body; raise `RemoteProtocolError` if malformed."""
    return decode_request(body, _MAP, MapRequest)
