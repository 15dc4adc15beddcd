"""Custom attributes of devices: setting, deleting, and what time does to them.

SPEC(Tailscale API, device posture attributes): names are in the namespace ``custom``, and no two
of a device differ in case only; texts have at most 50 characters, numbers are whole and safe in
JavaScript. A client that sets its own attributes is held to the same, and to ``attrConfig``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from mergescale.domain.node import Node
from mergescale.domain.posture import AttributeValue, CustomAttribute
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.errors import Conflict, Forbidden, Invalid, NotFound
from mergescale.kernel.ids import NodeId
from mergescale.state import lookup
from mergescale.state.outcome import Decision, Outcome, replaced

_NAME: Final = re.compile(r"custom:[A-Za-z0-9_:]{1,121}")
_TEXT: Final = re.compile(r"[A-Za-z0-9_.]{0,50}")
_SAFE: Final = 2**53 - 1
#: LIMIT: attributes of one device; they are part of its record and read with every change of it.
MAX_ATTRIBUTES: Final = 100


def put(node_id: NodeId, attribute: CustomAttribute) -> Decision[Node]:
    """Set an attribute, whatever it was before.

    Raises (when carried out):
        Invalid: not an attribute, of another type than ``attrConfig`` says, or over already.
        Conflict: the device has one whose name differs in case only, or too many.
    """

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[Node]:
        node = lookup.node(snapshot, node_id)
        if attribute.expires is not None and attribute.expires <= now:
            raise Invalid("the expiry is in the past")
        return replaced(snapshot, node, _with(snapshot, node, attribute))

    return decide


def delete(node_id: NodeId, name: str) -> Decision[Node]:
    """Take an attribute away.

    Raises (when carried out):
        NotFound: the device does not have it.
    """

    def decide(snapshot: Snapshot, _: datetime) -> Outcome[Node]:
        node = lookup.node(snapshot, node_id)
        left = tuple(one for one in node.custom if one.name != name)
        if left == node.custom:
            raise NotFound("the device has no such attribute")
        return replaced(snapshot, node, replace(node, custom=left))

    return decide


def set_by_node(node_id: NodeId, update: Mapping[str, AttributeValue | None]) -> Decision[Node]:
    """Set attributes as the device itself asks, all or none; None takes one away.

    Raises (when carried out):
        Forbidden: ``attrConfig`` does not let devices set one of them.
        Invalid, Conflict: as for `put`.
    """

    def decide(snapshot: Snapshot, _: datetime) -> Outcome[Node]:
        node = lookup.node(snapshot, node_id)
        after = node
        for name, value in update.items():
            rule = snapshot.access.attribute_rule(name)
            if rule is None or not rule.set_by_node:
                raise Forbidden("devices may not set this attribute")
            if value is None:
                left = tuple(one for one in after.custom if one.name != name)
                after = replace(after, custom=left)
            else:
                after = _with(snapshot, after, CustomAttribute(name, value))
        return replaced(snapshot, node, after)

    return decide


def lapsed(snapshot: Snapshot, now: datetime) -> Iterator[Node]:
    """Yield each node that has attributes whose time is over, without them."""
    for node in snapshot.nodes.values():
        if node.custom:
            left = tuple(one for one in node.custom if one.expires is None or one.expires > now)
            if len(left) < len(node.custom):
                yield replace(node, custom=left)


def _with(snapshot: Snapshot, node: Node, attribute: CustomAttribute) -> Node:
    _check(snapshot, attribute)
    others = [one for one in node.custom if one.name != attribute.name]
    if any(one.name.casefold() == attribute.name.casefold() for one in others):
        raise Conflict("the device has an attribute whose name differs in case only")
    if len(others) >= MAX_ATTRIBUTES:
        raise Conflict(f"the device has {MAX_ATTRIBUTES} attributes", help="delete some of them")
    custom = sorted([*others, attribute], key=lambda one: one.name)
    return replace(node, custom=tuple(custom))


def _check(snapshot: Snapshot, attribute: CustomAttribute) -> None:
    if not _NAME.fullmatch(attribute.name):
        raise Invalid(
            "this is not the name of a custom attribute",
            help="write custom: and then letters, digits, _ or :",
        )
    match attribute.value:
        case str(text) if not _TEXT.fullmatch(text):
            raise Invalid("a text has at most 50 letters, digits, _ and .")
        case float(number) if not (number.is_integer() and abs(number) <= _SAFE):
            raise Invalid("a number is whole and at most 2^53 - 1")
    rule = snapshot.access.attribute_rule(attribute.name)
    if rule is not None and not rule.admits(attribute.value):
        raise Invalid("attrConfig in the policy gives this attribute another type")
