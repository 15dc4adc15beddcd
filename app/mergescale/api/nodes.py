"""Nodes, which Tailscale's API calls devices."""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address
from typing import Any, Final, Literal

from litestar import Request, delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Struct

from mergescale.api import device
from mergescale.api.callers import Authenticated, Caller
from mergescale.api.device import Device
from mergescale.api.openapi import ERRORS, Nothing
from mergescale.domain.node import Node
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.errors import Invalid, NotFound
from mergescale.kernel.ids import NodeId
from mergescale.state import nodes

Fields = Literal["default", "all"]

#: Parameters of a listing that are no filters.
_NO_FILTERS: Final = frozenset({"fields", "tailnet"})
_FILTERS: Final = dict(zip(Device.__struct_encode_fields__, Device.__struct_fields__, strict=True))
#: LIMIT: digits of the largest id that JSON carries.
_ID_DIGITS: Final = 16


class Devices(Struct, frozen=True):
    """All devices of a tailnet, in the order of their ids."""

    devices: list[Device]


class SetAuthorized(Struct, frozen=True):
    """Approve a device, or take that back."""

    authorized: bool


class SetName(Struct, frozen=True):
    """Name a device.

    Attributes:
        name: a DNS label, or the whole MagicDNS name; empty for what the host name gives.
    """

    name: str


class SetTags(Struct, frozen=True):
    """Let tags own a device.

    Attributes:
        tags: all of them; null, as Go writes an empty list, is none.
    """

    tags: list[str] | None


class SetKey(Struct, frozen=True, rename="camel"):
    """Say whether a device's key expires."""

    key_expiry_disabled: bool


class SetAddress(Struct, frozen=True):
    """Give a device another IPv4 address."""

    ipv4: str


def node_of(caller: Authenticated, text: str) -> Node:
    """Return the node with this id, either of its two.

    Raises:
        NotFound: the caller's tailnet has none.
    """
    snapshot = caller.snapshot
    if text.isascii() and text.isdigit() and len(text) <= _ID_DIGITS:
        found = snapshot.nodes.get(NodeId(int(text)))
    else:
        found = next((n for n in snapshot.nodes.values() if n.stable_id == text), None)
    if found is None:
        raise NotFound("no such device")
    return found


@get("/tailnet/{tailnet:str}/devices", responses=ERRORS, tags=["Devices"], sync_to_thread=False)
def list_devices(
    caller: Caller, request: Request[Any, Any, Any], fields: FromQuery[Fields] = "default"
) -> Devices:
    """List the devices of the tailnet.

    Any other parameter is a filter: the name of a member and the value it must have, as in
    `?os=linux&tags=tag:web`. One given several times allows any of its values.
    """
    snapshot = caller.snapshot
    filters = _filters(request)
    found = (_render(caller, snapshot, node, fields) for node in snapshot.nodes.values())
    return Devices([one for one in found if _matches(one, filters)] if filters else list(found))


@get("/device/{device_id:str}", responses=ERRORS, tags=["Devices"], sync_to_thread=False)
def get_device(
    caller: Caller, device_id: FromPath[str], fields: FromQuery[Fields] = "default"
) -> Device:
    """Show one device, by its `nodeId` or its decimal `id`."""
    return _render(caller, caller.snapshot, node_of(caller, device_id), fields)


@delete("/device/{device_id:str}", status_code=200, responses=ERRORS, tags=["Devices"])
async def delete_device(caller: Caller, device_id: FromPath[str]) -> Nothing:
    """Remove a device; it is logged out, and comes back as a new one if at all."""
    await caller.engine.apply(nodes.delete(node_of(caller, device_id).id))
    return Nothing()


@post("/device/{device_id:str}/authorized", status_code=200, responses=ERRORS, tags=["Devices"])
async def set_authorized(
    caller: Caller, device_id: FromPath[str], data: JSONBody[SetAuthorized]
) -> Nothing:
    """Approve a device, where the tailnet asks for that, or take its approval back."""
    node_id = node_of(caller, device_id).id
    decide = nodes.authorize(node_id) if data.authorized else nodes.deauthorize(node_id)
    await caller.engine.apply(decide)
    return Nothing()


@post("/device/{device_id:str}/name", status_code=200, responses=ERRORS, tags=["Devices"])
async def set_name(caller: Caller, device_id: FromPath[str], data: JSONBody[SetName]) -> Nothing:
    """Name a device; the name stays whatever its host name becomes."""
    node_id = node_of(caller, device_id).id
    label = data.name.strip().rstrip(".").removesuffix(f".{caller.snapshot.magic_dns_suffix}")
    await caller.engine.apply(nodes.rename(node_id, label))
    return Nothing()


@post("/device/{device_id:str}/tags", status_code=200, responses=ERRORS, tags=["Devices"])
async def set_tags(caller: Caller, device_id: FromPath[str], data: JSONBody[SetTags]) -> Nothing:
    """Let tags own a device; it no longer belongs to its user, and its key no longer expires."""
    node_id = node_of(caller, device_id).id
    await caller.engine.apply(nodes.set_tags(node_id, data.tags or ()))
    return Nothing()


@post("/device/{device_id:str}/key", status_code=200, responses=ERRORS, tags=["Devices"])
async def set_key(caller: Caller, device_id: FromPath[str], data: JSONBody[SetKey]) -> Nothing:
    """Let a device's key never expire, or again after the tailnet's time."""
    node_id = node_of(caller, device_id).id
    off = data.key_expiry_disabled
    await caller.engine.apply(
        (nodes.disable_key_expiry if off else nodes.enable_key_expiry)(node_id)
    )
    return Nothing()


@post("/device/{device_id:str}/expire", status_code=200, responses=ERRORS, tags=["Devices"])
async def expire_device(caller: Caller, device_id: FromPath[str]) -> Nothing:
    """Let a device's key expire now: its user has to log in again."""
    await caller.engine.apply(nodes.expire(node_of(caller, device_id).id))
    return Nothing()


@post("/device/{device_id:str}/ip", status_code=200, responses=ERRORS, tags=["Devices"])
async def set_address(
    caller: Caller, device_id: FromPath[str], data: JSONBody[SetAddress]
) -> Nothing:
    """Give a device another IPv4 address."""
    node_id = node_of(caller, device_id).id
    try:
        address = IPv4Address(data.ipv4)
    except AddressValueError:
        raise Invalid(f'"{data.ipv4[:80]}" is not an IPv4 address') from None
    await caller.engine.apply(nodes.set_ipv4(node_id, address))
    return Nothing()


HANDLERS: Final[list[HTTPRouteHandler]] = [
    list_devices,
    get_device,
    delete_device,
    set_authorized,
    set_name,
    set_tags,
    set_key,
    expire_device,
    set_address,
]


def _render(caller: Authenticated, snapshot: Snapshot, node: Node, fields: Fields) -> Device:
    if fields == "default":
        return device.brief(snapshot, node)
    return device.full(snapshot, node, device.region_names(snapshot, caller.backend.regions))


def _filters(request: Request[Any, Any, Any]) -> dict[str, set[str]]:
    """Return member -> the values it may have."""
    wanted: dict[str, set[str]] = {}
    for name, value in request.query_params.multi_items():
        if name in _NO_FILTERS:
            continue
        if name not in _FILTERS:
            raise Invalid(f'devices have no "{name[:80]}"', help="filter by a member of a device")
        wanted.setdefault(_FILTERS[name], set()).add(value)
    return wanted


def _matches(one: Device, filters: dict[str, set[str]]) -> bool:
    return all(allowed & _texts(getattr(one, name)) for name, allowed in filters.items())


def _texts(value: object) -> set[str]:
    """Return what of a member a filter compares with."""
    match value:
        case bool():
            return {"true" if value else "false"}
        case str():
            return {value}
        case list():
            return set(value)
        case _:
            return set()
