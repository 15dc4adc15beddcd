"""What other nodes see of a Hostinfo, and what a node sees of its own.

INVARIANT(peer view): stored JSON never goes to another node. One member of a wrong type makes a Go
client drop the whole map, and unknown members have no type we know; so peers get a new object of
known, checked members (`peer_view`).
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import UNSET, UnsetType, field, structs

from mergescale.wire.tailcfg.encode import encode, plain
from mergescale.wire.tailcfg.hostinfo import Hostinfo, Location, stored_hostinfo
from mergescale.wire.tailcfg.names import Wire

#: LIMIT: the longest text a peer gets to see of another; RFC 1035 names have 253 characters.
PEER_TEXT_CHARS: Final = 253
#: LIMIT: host keys passed on; sshd has one for each of a handful of algorithms.
PEER_HOST_KEYS: Final = 16
#: LIMIT: the text of an RSA key of 16384 bits, the largest OpenSSH reads, is below 3 KiB.
HOST_KEY_CHARS: Final = 4096

#: Meta services: where a node's PeerAPI listens, and whether it is a DNS proxy.
PEERAPI_SERVICES: Final = ("peerapi4", "peerapi6", "peerapi-dns-proxy")


class PeerService(Wire, frozen=True, kw_only=True):
    """tailcfg.Service as peers see it.

    Attributes:
        proto: one of `PEERAPI_SERVICES`.
        port: 0 to 65535.
        description: process name. WIRE(rust): required, so always sent.
    """

    proto: str
    port: int
    description: str


class PeerHostinfo(Wire, frozen=True, kw_only=True):
    """The members of tailcfg.Hostinfo that Go clients read of their peers, and no more.

    `tailscale status` shows `hostname`, `os` and `ssh_host_keys`; PeerAPI, Taildrop and the DNS of
    exit nodes need `services`; suggesting an exit node needs `location`; app connectors are found by
    `app_connector` (ipn/ipnlocal/local.go, feature/taildrop/ext.go, net/traffic, appc/conn25.go).

    All else stays with the server, being of no use to a peer and telling about the machine, its
    network or its user: versions and hardware to pick exploits by, log ids that name the device to
    the log server, push tokens, TPM and MAC addresses, NetInfo, open ports (services other than
    PeerAPI's), what it asked for (tags, routes, exit node). ``ShareeNode`` is control's to set.

    Attributes:
        hostname: as the machine calls itself; may differ from Node.Name.
        os: ``linux``, ``windows``, …
        services: PeerAPI's only.
        ssh_host_keys: OpenSSH public keys.
        app_connector: the node runs one.
        location: where it says it is.
    """

    hostname: str = ""
    os: str = ""
    services: tuple[PeerService, ...] = ()
    ssh_host_keys: tuple[str, ...] = field(name="sshHostKeys", default=())
    app_connector: bool = False
    location: Location | UnsetType = UNSET


class SelfHostinfo(PeerHostinfo, frozen=True, kw_only=True):
    """What a node gets to see of its own Hostinfo: `PeerHostinfo` and its routes.

    Go's subnet router compares RoutableIPs with PrimaryRoutes of its own node (feature/bird).
    """

    routable_ips: tuple[str, ...] = ()


def peer_view(raw: bytes) -> bytes:
    """Return the JSON for Node.Hostinfo of a stored Hostinfo, as its peers may see it.

    Safe for Rust (no escapes, no nulls). Bytes that are no Hostinfo give ``{}``: one bad row must
    not break the maps of everyone else (spec 9.3, pitfall 47).
    """
    return encode(PeerHostinfo(**_shared(stored_hostinfo(raw))))


def self_view(raw: bytes) -> bytes:
    """Return the JSON for the self Node's Hostinfo of a stored Hostinfo."""
    hostinfo = stored_hostinfo(raw)
    return encode(SelfHostinfo(**_shared(hostinfo), routable_ips=hostinfo.routable_ips))


def _shared(hostinfo: Hostinfo) -> dict[str, Any]:
    # The last entry of a kind counts, as in Go's peerAPIPorts.
    peerapi = {entry.proto: entry for entry in hostinfo.services if entry.proto in PEERAPI_SERVICES}
    keys = [text for text in hostinfo.ssh_host_keys if len(text) <= HOST_KEY_CHARS]
    return {
        "hostname": _text(hostinfo.hostname),
        "os": _text(hostinfo.os),
        "services": tuple(
            PeerService(proto=entry.proto, port=entry.port, description=_text(entry.description))
            for entry in peerapi.values()
        ),
        "ssh_host_keys": tuple(map(plain, keys[:PEER_HOST_KEYS])),
        "app_connector": hostinfo.app_connector is True,
        "location": UNSET if hostinfo.location is None else _location(hostinfo.location),
    }


def _location(location: Location) -> Location:
    return structs.replace(
        location,
        country=_text(location.country),
        country_code=_text(location.country_code),
        city=_text(location.city),
        city_code=_text(location.city_code),
    )


def _text(text: str) -> str:
    return plain(text[:PEER_TEXT_CHARS])
