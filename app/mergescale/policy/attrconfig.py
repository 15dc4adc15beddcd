"""``attrConfig``: what may be said of custom attributes, and by whom."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from mergescale.policy.diagnostics import Report, Span, quoted
from mergescale.policy.fields import expect, fields, members, string, texts
from mergescale.policy.hujson import Kind, Value
from mergescale.policy.postures import Attribute
from mergescale.policy.scope import Scope
from mergescale.policy.selectors import Selector

_CUSTOM: Final = re.compile(r"custom:[A-Za-z0-9_:]{1,121}")
_CONFIG: Final = ("type", "allowSetByNode", "broadcastToPeers")


class AttributeType(StrEnum):
    """What values of a custom attribute are."""

    STRING = "string"
    BOOL = "bool"
    NUMBER = "number"


_TYPES: Final[Mapping[AttributeType, type]] = {
    AttributeType.STRING: str,
    AttributeType.BOOL: bool,
    AttributeType.NUMBER: float,
}


@dataclass(frozen=True, slots=True)
class AttributeConfig:
    """One entry of ``attrConfig``.

    Attributes:
        name: ``custom:x``.
        type: of its values; None for any.
        set_by_node: a device may set it for itself.
        broadcast: devices that are told the value; kept for what reads policies, since no client
            of today asks for it.
    """

    name: str
    type: AttributeType | None = None
    set_by_node: bool = False
    broadcast: tuple[Selector, ...] = ()
    origin: Span | None = field(default=None, compare=False)

    def admits(self, value: Attribute) -> bool:
        """Say whether a value is of the type."""
        return self.type is None or type(value) is _TYPES[self.type]


def read_attr_config(value: Value | None, scope: Scope) -> dict[str, AttributeConfig]:
    """Read ``attrConfig``: name of a custom attribute -> what may be said of it."""
    return {config.name: config for config in _configs(value, scope)}


def _configs(value: Value | None, scope: Scope) -> Iterator[AttributeConfig]:
    report = scope.report
    for member in members(value, report, "attrConfig"):
        if not _CUSTOM.fullmatch(member.key):
            message = f"{quoted(member.key)} is not the name of a custom attribute"
            help_ = "write custom: and then letters, digits, _ or :"
            report.error("policy.attr-config", member.key_span, message, help_)
            continue
        found = fields(member.value, report, what="attrConfig", known=_CONFIG)
        yield AttributeConfig(
            name=member.key,
            type=_type(found.get("type"), report),
            set_by_node=_true(found.get("allowSetByNode"), report),
            broadcast=tuple(
                selector
                for text, one in texts(found.get("broadcastToPeers"), report, "broadcastToPeers")
                if (selector := scope.selector(text, one.span)) is not None
            ),
            origin=member.key_span,
        )


def _type(value: Value | None, report: Report) -> AttributeType | None:
    text = string(value, report, "type")
    if value is None or text is None:
        return None
    try:
        return AttributeType(text)
    except ValueError:
        report.unknown("policy.attr-config", value.span, "type", text, list(AttributeType))
        return None


def _true(value: Value | None, report: Report) -> bool:
    if value is None or not expect(value, Kind.BOOLEAN, report, "allowSetByNode"):
        return False
    return bool(value.scalar)
