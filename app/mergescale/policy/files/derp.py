"""``derp.hujson``: the relays of the tailnet, spelled as tailcfg.DERPMap so that maps paste in."""

from __future__ import annotations

from typing import Any, Final

from mergescale.domain.tailnet import RelayNode, RelayRegion, Relays
from mergescale.policy.diagnostics import Report, quoted
from mergescale.policy.files import forms
from mergescale.policy.hujson import Kind, Member, Value

_PORT: Final = {"type": "integer", "minimum": 0, "maximum": 65535}
#: tailcfg fields that maps found elsewhere hold and that change nothing here.
_UNUSED_OF_REGION: Final = ("Latitude", "Longitude", "Avoid")
_UNUSED_OF_NODE: Final = ("STUNTestIP",)

_NODE: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["Name", "HostName"],
    "additionalProperties": False,
    "properties": {
        "Name": {"type": "string", "minLength": 1, "description": "Unique in the map, e.g. 901a."},
        "RegionID": {"type": "integer", "description": "The region's id, or left out."},
        "HostName": {
            "type": "string",
            "pattern": forms.DOMAIN,
            "patternErrorMessage": "a host name or address",
            "description": "Host name of the server; its certificate must hold it.",
        },
        "CertName": {"type": "string", "description": "Name in the certificate, if another."},
        "IPv4": {"type": "string", "description": 'Address to use instead of DNS, or "none".'},
        "IPv6": {"type": "string", "description": 'Address to use instead of DNS, or "none".'},
        "STUNPort": {
            "type": "integer",
            "minimum": -1,
            "maximum": 65535,
            "description": "UDP port of STUN; 0 means 3478, -1 none.",
        },
        "STUNOnly": {
            "type": "boolean",
            "description": "The server answers STUN and relays nothing.",
        },
        "DERPPort": {**_PORT, "description": "TCP port of the relay; 0 means 443."},
        "InsecureForTests": {
            "type": "boolean",
            "description": "Clients do not check the certificate. For tests only.",
        },
        "CanPort80": {"type": "boolean", "description": "Port 80 answers captive portal checks."},
        "STUNTestIP": {"type": "string", "description": "Not used."},
    },
}

_REGION: Final[dict[str, Any]] = {
    "type": ["object", "null"],
    "required": ["RegionID", "RegionCode", "Nodes"],
    "additionalProperties": False,
    "properties": {
        "RegionID": {
            "type": "integer",
            "minimum": 1,
            "maximum": 65535,
            "description": "The same as the key. 900 to 999 are free for private use.",
        },
        "RegionCode": {"type": "string", "minLength": 1, "description": "Short name, e.g. fra."},
        "RegionName": {"type": "string", "description": "Name for people, e.g. Frankfurt."},
        "NoMeasureNoHome": {
            "type": "boolean",
            "description": "Clients use the region to reach others but not as their home.",
        },
        "Nodes": {
            "type": "array",
            "minItems": 1,
            "items": _NODE,
            "description": "The region's servers, best first.",
        },
        "Latitude": {"type": "number", "description": "Not used."},
        "Longitude": {"type": "number", "description": "Not used."},
        "Avoid": {"type": "boolean", "description": "Not used."},
    },
}

_OMIT: Final = {
    "type": "boolean",
    "default": False,
    "description": "Leave the server's own relay out and use the regions of this file only.",
}

SCHEMA: Final[dict[str, Any]] = forms.document(
    "derp.hujson",
    "Relays (DERP regions) that clients use besides the server's own.",
    {
        "OmitDefaultRegions": _OMIT,
        "omitDefaultRegions": {**_OMIT, "description": "The same as OmitDefaultRegions."},
        "Regions": {
            "type": "object",
            "description": "One entry for each region; the key is its id.",
            "patternProperties": {"^[1-9][0-9]{0,4}$": _REGION},
            "additionalProperties": False,
            "patternErrorMessage": "the id of a region",
        },
    },
)


def read(value: Value, report: Report) -> Relays:
    """Return the relays; ids that disagree and names that repeat go to `report`."""
    omits = [value.get("OmitDefaultRegions"), value.get("omitDefaultRegions")]
    omit = next(
        (one for one in omits if one is not None and forms.boolean(one, default=False)), None
    )
    listed = value.get("Regions")
    members = listed.members if listed is not None else ()
    regions = tuple(
        _region(member, report) for member in members if member.value.kind is Kind.OBJECT
    )
    if omit is not None and not any(_relays(region) for region in regions):
        message = "no relay would be left that clients can use as their home"
        report.error("derp.none", omit.span, message, "add a region or keep the server's own")
    _unique(members, report)
    return Relays(tuple(sorted(regions, key=lambda region: region.id)), embedded=omit is None)


def _relays(region: RelayRegion) -> bool:
    return not region.no_measure_no_home and any(not node.stun_only for node in region.nodes)


def _region(member: Member, report: Report) -> RelayRegion:
    value = member.value
    said = value.get("RegionID")
    if said is not None and forms.number(said) and str(said.scalar) != member.key:
        message = f"region {quoted(member.key)} says that its id is {said.scalar}"
        report.error("derp.id", said.span, message, "the key and RegionID are the same number")
    _warn_unused(value, _UNUSED_OF_REGION, report)
    code = forms.string(value.get("RegionCode")) or ""
    nodes = value.get("Nodes")
    return RelayRegion(
        id=forms.number(said),
        code=code,
        name=forms.string(value.get("RegionName")) or code,
        nodes=tuple(_node(node, said, report) for node in (nodes.items if nodes else ())),
        no_measure_no_home=forms.boolean(value.get("NoMeasureNoHome"), default=False),
    )


def _node(value: Value, region: Value | None, report: Report) -> RelayNode:
    said = value.get("RegionID")
    if said is not None and region is not None and said.scalar not in {0, region.scalar}:
        message = f"the server says region {said.scalar} and stands in {region.scalar}"
        report.error("derp.id", said.span, message, "leave RegionID out here")
    _warn_unused(value, _UNUSED_OF_NODE, report)
    insecure = value.get("InsecureForTests")
    if insecure is not None and forms.boolean(insecure, default=False):
        message = "clients will not check this relay's certificate"
        report.warn("derp.insecure", insecure.span, message, "for tests only")
    return RelayNode(
        name=forms.string(value.get("Name")) or "",
        host_name=forms.string(value.get("HostName")) or "",
        cert_name=forms.string(value.get("CertName")) or "",
        ipv4=_address(value.get("IPv4"), 4, report),
        ipv6=_address(value.get("IPv6"), 6, report),
        stun_port=forms.number(value.get("STUNPort")),
        stun_only=forms.boolean(value.get("STUNOnly"), default=False),
        derp_port=forms.number(value.get("DERPPort")),
        insecure_for_tests=forms.boolean(insecure, default=False),
        can_port80=forms.boolean(value.get("CanPort80"), default=False),
    )


def _address(value: Value | None, version: int, report: Report) -> str:
    """Read tailcfg.DERPNode.IPv4 or IPv6: an address, ``none``, or empty to ask DNS."""
    text = forms.string(value)
    if value is None or not text or text == "none":
        return text or ""
    address = forms.address(text)
    if address is None or address.version != version:
        message = f"{quoted(text)} is not an IPv{version} address"
        report.error("derp.address", value.span, message, 'or write "none"')
        return ""
    return str(address)


def _warn_unused(value: Value, names: tuple[str, ...], report: Report) -> None:
    for member in value.members:
        if member.key in names:
            message = f"{quoted(member.key)} has no effect here"
            report.warn("derp.unused", member.key_span, message)


def _unique(members: tuple[Member, ...], report: Report) -> None:
    """Report region codes and server names that are there twice."""
    codes: dict[str, Value] = {}
    names: dict[str, Value] = {}
    for member in members:
        _first("region code", member.value.get("RegionCode"), codes, report)
        nodes = member.value.get("Nodes")
        for node in nodes.items if nodes is not None else ():
            _first("server name", node.get("Name"), names, report)


def _first(what: str, value: Value | None, seen: dict[str, Value], report: Report) -> None:
    text = forms.string(value)
    if value is None or not text:
        return
    first = seen.setdefault(text, value)
    if first is not value:
        line = first.span.start_line
        message = f"{what} {quoted(text)} is used twice"
        report.error("derp.twice", value.span, message, f"the first one is at line {line}")
