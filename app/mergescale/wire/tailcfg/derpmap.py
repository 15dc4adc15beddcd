"""tailcfg.DERPMap and its parts (spec 4.8), and the relay's admission call (spec 7.6).

Changing a region's JSON makes clients drop their connection to it, so build a region the same way
each time; msgspec writes members in declaration order and maps in insertion order.
"""

from __future__ import annotations

from msgspec import UNSET, UnsetType, field

from mergescale.kernel.keys import NodeKey
from mergescale.wire.tailcfg.decode import Shape, decode_request, key
from mergescale.wire.tailcfg.encode import make_plain
from mergescale.wire.tailcfg.names import Wire


class DERPNode(Wire, frozen=True, kw_only=True):
    """tailcfg.DERPNode: one relay host.

    Attributes:
        name: unique over all regions, ``900a`` style.
        region_id: its region.
        host_name: TLS SNI and certificate name; DNS when no IP is given.
        cert_name: another expected certificate name, or ``sha256-raw:<hex>`` to pin one (Go only).
        ipv4: skips DNS; ``none`` disables the family; left out when empty.
        ipv6: the same.
        stun_port: 0 means 3478, -1 none.
        stun_only: no DERP here.
        derp_port: 0 means 443.
        insecure_for_tests: turns TLS verification off.
        stun_test_ip: overrides the STUN address.
        can_port80: port 80 answers ``/generate_204``; set only where it does.
    """

    name: str
    region_id: int
    host_name: str
    cert_name: str = ""
    ipv4: str = ""
    ipv6: str = ""
    stun_port: int = 0
    stun_only: bool = False
    derp_port: int = 0
    insecure_for_tests: bool = False
    stun_test_ip: str = ""
    can_port80: bool = False

    def __post_init__(self) -> None:
        make_plain(self, "name", "host_name", "cert_name", "ipv4", "ipv6", "stun_test_ip")


class DERPRegion(Wire, frozen=True, kw_only=True):
    """tailcfg.DERPRegion: relays that forward to each other.

    Attributes:
        region_id: 1 to 65535 and equal to its key in the map; 900 to 999 are for private use.
        region_code: short, for display.
        region_name: longer, for display.
        latitude: degrees; left out at 0.
        longitude: degrees; left out at 0.
        avoid: deprecated form of `no_measure_no_home`, for versions below 115.
        no_measure_no_home: never measured or picked as home, still used to reach peers there.
        nodes: by priority.
    """

    region_id: int
    region_code: str
    region_name: str
    latitude: float = 0.0
    longitude: float = 0.0
    avoid: bool = False
    no_measure_no_home: bool = False
    nodes: tuple[DERPNode, ...]

    def __post_init__(self) -> None:
        make_plain(self, "region_code", "region_name")


class DERPHomeParams(Wire, frozen=True, kw_only=True):
    """tailcfg.DERPHomeParams.

    Attributes:
        region_score: latency multiplier by region id; below 1 favours. Absent leaves the client's
            scores as they are, empty resets them to 1.
    """

    region_score: dict[int, float] | UnsetType = UNSET


class DERPMap(Wire, frozen=True, kw_only=True):
    """tailcfg.DERPMap; always sent whole, because Rust takes each one as complete.

    Attributes:
        home_params: absent leaves what the client has.
        regions: by region id; always present, never with a null region (Rust fails).
        omit_default_regions: whoever merges default maps must not; wire name in lower case.
    """

    home_params: DERPHomeParams | UnsetType = UNSET
    regions: dict[int, DERPRegion]
    omit_default_regions: bool = field(name="omitDefaultRegions", default=False)


class DERPAdmitClientRequest(Wire, frozen=True, kw_only=True):
    """tailcfg.DERPAdmitClientRequest: a relay asks whether to serve a key (``POST /verify``).

    Attributes:
        node_public: the key that wants to connect.
        source: the client's IP, as text; informational.
    """

    node_public: NodeKey = NodeKey.zero()
    source: str = ""


class DERPAdmitClientResponse(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """tailcfg.DERPAdmitClientResponse.

    Attributes:
        allow: whether the relay serves the key.
    """

    allow: bool


_ADMIT = Shape(DERPAdmitClientRequest, {"node_public": key(NodeKey)})


def decode_admit_request(body: bytes) -> DERPAdmitClientRequest:
    """Return the admission request in a body; raise `RemoteProtocolError` if malformed."""
    return decode_request(body, _ADMIT, DERPAdmitClientRequest)
