"""Posture attributes of devices, in the shapes of Tailscale's API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from litestar import delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from msgspec import Struct

from mergescale.api.callers import Authenticated, Caller
from mergescale.api.nodes import node_of
from mergescale.api.openapi import ERRORS, Nothing
from mergescale.domain.node import Node
from mergescale.domain.posture import CustomAttribute
from mergescale.kernel.errors import Invalid
from mergescale.policy.device import attributes_of
from mergescale.state import attributes

#: Go writes its zero time for "never".
_ZERO_YEAR: Final = 1


class DevicePostureAttributes(Struct, frozen=True):
    """All attributes of a device.

    Attributes:
        attributes: ``node:`` ones from what its client says, ``custom:`` ones as they were set.
        expiries: when attributes will be removed, of those that will.
    """

    attributes: dict[str, str | float | bool]
    expiries: dict[str, datetime]


class SetAttribute(Struct, frozen=True):
    """Set a custom attribute.

    Attributes:
        value: a text of at most 50 letters, digits, ``_`` and ``.``, a whole number, or a boolean.
        expiry: when it is to be removed; absent, null or year 1 for never.
        comment: why, at most 200 characters.
    """

    value: str | float | bool
    expiry: datetime | None = None
    comment: str = ""


@get("/device/{device_id:str}/attributes", responses=ERRORS, tags=["Devices"], sync_to_thread=False)
def get_attributes(caller: Caller, device_id: FromPath[str]) -> DevicePostureAttributes:
    """Show the posture attributes of a device."""
    return _shown(node_of(caller, device_id))


@post(
    "/device/{device_id:str}/attributes/{name:str}",
    status_code=200,
    responses=ERRORS,
    tags=["Devices"],
)
async def set_attribute(
    caller: Caller, device_id: FromPath[str], name: FromPath[str], data: JSONBody[SetAttribute]
) -> DevicePostureAttributes:
    """Set a custom attribute of a device; the policy may say what type its values have."""
    if len(data.comment) > _LONGEST_COMMENT:
        raise Invalid(f"a comment has at most {_LONGEST_COMMENT} characters")
    value = data.value
    attribute = CustomAttribute(
        name=name,
        value=value if isinstance(value, bool | str) else float(value),
        expires=_moment(data.expiry),
    )
    return _shown(await _applied(caller, device_id, attribute))


@delete(
    "/device/{device_id:str}/attributes/{name:str}",
    status_code=200,
    responses=ERRORS,
    tags=["Devices"],
)
async def delete_attribute(
    caller: Caller, device_id: FromPath[str], name: FromPath[str]
) -> Nothing:
    """Take a custom attribute away."""
    await caller.engine.apply(attributes.delete(node_of(caller, device_id).id, name))
    return Nothing()


HANDLERS: Final[list[HTTPRouteHandler]] = [get_attributes, set_attribute, delete_attribute]
#: LIMIT: as in Tailscale's API.
_LONGEST_COMMENT: Final = 200


async def _applied(caller: Authenticated, device_id: str, attribute: CustomAttribute) -> Node:
    return await caller.engine.apply(attributes.put(node_of(caller, device_id).id, attribute))


def _moment(expiry: datetime | None) -> datetime | None:
    if expiry is None or expiry.year == _ZERO_YEAR:
        return None
    if expiry.tzinfo is None:
        raise Invalid("the expiry needs an offset or Z")
    return expiry.astimezone(UTC)


def _shown(node: Node) -> DevicePostureAttributes:
    found = {name: _number(value) for name, value in attributes_of(node).items()}
    expiries = {one.name: one.expires for one in node.custom if one.expires is not None}
    return DevicePostureAttributes(found, expiries)


def _number(value: str | float | bool) -> str | float | bool:  # noqa: FBT001 - a value of any type
    """Write whole numbers without a point, as they came."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
