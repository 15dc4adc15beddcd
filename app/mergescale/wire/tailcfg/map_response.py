"""``POST /machine/map``, the answer: tailcfg.MapResponse and its smaller parts (spec 4.3 to 4.5, 6.3)."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from msgspec import UNSET, UnsetType, field

from mergescale.wire.tailcfg.derpmap import DERPMap
from mergescale.wire.tailcfg.dns import DNSConfig
from mergescale.wire.tailcfg.encode import make_plain
from mergescale.wire.tailcfg.filter import FilterRule
from mergescale.wire.tailcfg.names import Wire
from mergescale.wire.tailcfg.node import Node, PeerChange
from mergescale.wire.tailcfg.ssh import SSHPolicy
from mergescale.wire.tailcfg.users import UserProfile

#: A keepalive, byte for byte; Go recognises its compressed form and skips decoding.
KEEPALIVE: Final = b'{"KeepAlive":true}'
#: PacketFilters' key that, with None, deletes every chunk first.
ALL_CHUNKS: Final = "*"
#: The chunk that PacketFilter sets.
BASE_CHUNK: Final = "base"


class PingRequest(Wire, frozen=True, kw_only=True):
    """tailcfg.PingRequest: control asks the node to call `url` (spec 6.3).

    Attributes:
        url: unique for each request; a repeated one is ignored.
        url_is_noise: always sent, as Rust requires.
        log: the client logs it.
        types: empty, ``c2n``, or ping types joined by commas; always sent, as Rust requires.
        ip: whom to ping; left out when empty.
        payload: an HTTP/1.1 request for ``c2n``; left out when empty.
    """

    url: str
    url_is_noise: bool
    log: bool = False
    types: str
    ip: str = ""
    payload: bytes = b""


class PingResponse(Wire, frozen=True, kw_only=True):
    """tailcfg.PingResponse: what a ping of the listed types found; posted to PingRequest's URL."""

    type: str = ""
    ip: str = ""
    node_ip: str = ""
    node_name: str = ""
    err: str = ""
    latency_seconds: float = 0.0
    endpoint: str = ""
    peer_relay: str = ""
    derp_region_id: int = 0
    derp_region_code: str = ""
    peer_api_port: int = 0
    is_local_ip: bool = False


class TKAInfo(Wire, frozen=True, kw_only=True):
    """tailcfg.TKAInfo: tailnet lock's state, either its head or that it is off."""

    head: str = ""
    disabled: bool = False


class ControlIPCandidate(Wire, frozen=True, kw_only=True):
    """tailcfg.ControlIPCandidate: one address of control to dial.

    Attributes:
        ip: left out when empty.
        ace_host: left out when empty.
        dial_start_delay_sec: seconds.
        dial_timeout_sec: seconds.
        priority: the highest that connects wins.
    """

    ip: str = ""
    ace_host: str = ""
    dial_start_delay_sec: float = 0.0
    dial_timeout_sec: float = 0.0
    priority: int = 0


class ControlDialPlan(Wire, frozen=True, kw_only=True):
    """tailcfg.ControlDialPlan; the empty list goes back to DNS."""

    candidates: tuple[ControlIPCandidate, ...]


class ClientVersion(Wire, frozen=True, kw_only=True):
    """tailcfg.ClientVersion: what the client tells its user about updates."""

    running_latest: bool = False
    latest_version: str = ""
    urgent_security_update: bool = False
    notify: bool = False
    notify_url: str = ""
    notify_text: str = ""

    def __post_init__(self) -> None:
        make_plain(self, "latest_version", "notify_url", "notify_text")


class Debug(Wire, frozen=True, kw_only=True):
    """tailcfg.Debug; not sticky.

    Attributes:
        sleep_seconds: blocks the client's map processing, at most 5 minutes.
        disable_log_tail: stops log upload. With the data-plane-audit-logs capability the node
            turns itself off.
        exit: ends the client's process with that code, 0 included; absent does not.
    """

    sleep_seconds: float = 0.0
    disable_log_tail: bool = False
    exit: int | UnsetType = UNSET


class DisplayMessageAction(Wire, frozen=True, kw_only=True):
    """tailcfg.DisplayMessageAction: a button."""

    url: str
    label: str


class DisplayMessage(Wire, frozen=True, kw_only=True):
    """tailcfg.DisplayMessage: a health message; Rust skips it.

    Attributes:
        title: one line.
        text: a sentence or two.
        severity: ``high``, ``medium`` or ``low``.
        impacts_connectivity: shown with more weight.
        primary_action: absent for none.
    """

    title: str
    text: str
    severity: str
    impacts_connectivity: bool = False
    primary_action: DisplayMessageAction | UnsetType = UNSET


class MapResponse(Wire, frozen=True, kw_only=True):
    """tailcfg.MapResponse; a full map or a delta. An absent member changes nothing.

    The first message of a stream (keepalives aside) has `node`, `derp_map` with a region, `peers`,
    a packet filter and `user_profiles`.

    Attributes:
        map_session_handle: resume token; left out when empty.
        seq: the session's counter; left out when 0.
        keep_alive: nothing else is applied but ping, browser URL, client version, time, dial plan.
        ping_request: absent for none.
        pop_browser_url: opened once; left out when empty.
        node: absent leaves it; present replaces the self node whole, CapMap included.
        derp_map: absent leaves it; present is complete.
        peers: absent changes nothing; empty is "no change" to Go and "no peers" to Rust; not empty
            replaces the whole set, and then the members below it are ignored.
        peers_changed: whole nodes to add or replace, sorted by id; left out when empty.
        peers_removed: ids; the only way to empty a Go client's list; left out when empty.
        peers_changed_patch: patches, applied last; left out when empty.
        peer_seen_change: True sets LastSeen to now, False clears it; left out when empty.
        online_change: sets Online; left out when empty.
        dns_config: absent leaves it, ``{}`` is "no DNS from control", present replaces.
        domain: the tailnet's display name; empty changes nothing, so it is left out.
        collect_services: absent leaves it; False stops the upload of port lists.
        packet_filter: absent leaves the `BASE_CHUNK`, empty allows nothing, present replaces it.
        packet_filters: absent leaves all chunks; a list sets its chunk, None deletes it;
            `ALL_CHUNKS` with None deletes all first. Chunks apply in sorted order of their keys.
        user_profiles: merged by ID; left out when empty.
        health: absent leaves it, empty is healthy; for capability versions below 117.
        display_messages: absent leaves them; None deletes one, `ALL_CHUNKS` with None all.
        ssh_policy: absent leaves it, no rules takes all access away, present replaces.
        control_time: the server's clock; absent for none.
        tka_info: absent leaves it.
        domain_data_plane_audit_log_id: left out when empty.
        debug: absent for none.
        control_dial_plan: absent leaves it.
        client_version: absent leaves it.
        default_auto_update: deprecated at 131; absent leaves it.
    """

    map_session_handle: str = ""
    seq: int = 0
    keep_alive: bool = False
    ping_request: PingRequest | UnsetType = UNSET
    pop_browser_url: str = ""
    node: Node | UnsetType = UNSET
    derp_map: DERPMap | UnsetType = UNSET
    peers: tuple[Node, ...] | UnsetType = UNSET
    peers_changed: tuple[Node, ...] = ()
    peers_removed: tuple[int, ...] = ()
    peers_changed_patch: tuple[PeerChange, ...] = ()
    peer_seen_change: dict[int, bool] = field(default_factory=dict)
    online_change: dict[int, bool] = field(default_factory=dict)
    dns_config: DNSConfig | UnsetType = UNSET
    domain: str = ""
    collect_services: bool | UnsetType = UNSET
    packet_filter: tuple[FilterRule, ...] | UnsetType = UNSET
    packet_filters: dict[str, tuple[FilterRule, ...] | None] | UnsetType = UNSET
    user_profiles: tuple[UserProfile, ...] = ()
    health: tuple[str, ...] | UnsetType = UNSET
    display_messages: dict[str, DisplayMessage | None] | UnsetType = UNSET
    ssh_policy: SSHPolicy | UnsetType = UNSET
    control_time: datetime | UnsetType = UNSET
    tka_info: TKAInfo | UnsetType = UNSET
    domain_data_plane_audit_log_id: str = ""
    debug: Debug | UnsetType = UNSET
    control_dial_plan: ControlDialPlan | UnsetType = UNSET
    client_version: ClientVersion | UnsetType = UNSET
    default_auto_update: bool | UnsetType = UNSET
