"""Device posture: conditions on attributes of the device that opens a connection.

    "posture:latestMac": ["node:os == 'macos'", "node:tsVersion >= '1.40'", "custom:tier IS SET"]

SPEC(hosted service, "Device posture"): a device has a posture when all conditions hold, and a
condition on an attribute that the device does not have never holds, ``NOT SET`` apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from operator import ge, gt, le, lt
from typing import Any, Final

from mergescale.domain.posture import AttributeValue
from mergescale.policy.diagnostics import Span, nearest, quoted
from mergescale.policy.selectors import Malformed
from mergescale.policy.versions import version

Attribute = AttributeValue
Attributes = Mapping[str, Attribute]

#: What clients and this server say of a device, with the type of each.
NODE_ATTRIBUTES: Final[Mapping[str, type]] = {
    "node:os": str,
    "node:osVersion": str,
    "node:tsVersion": str,
    "node:tsReleaseTrack": str,
    "node:tsAutoUpdate": bool,
    "node:tsStateEncrypted": bool,
}
_VERSIONS: Final = frozenset({"node:osVersion", "node:tsVersion"})
_WORDS: Final = {str: "a text in quotes", float: "a number", bool: "true or false"}

_NAME: Final = r"[A-Za-z][A-Za-z0-9]*:[A-Za-z0-9_.:-]+"
_CONDITION: Final = re.compile(
    rf"({_NAME})\s*(?:(==|!=|<=|>=|<|>)\s*|\s+(IN|NOT\s+IN)\s*(?=\[)|\s+(IS\s+SET|NOT\s+SET)\s*$|$)",
    re.IGNORECASE,
)
_TOKEN: Final = re.compile(
    r"""\s*(?:'([^'\\]*)'|"([^"\\]*)"|(-?[0-9]+(?:\.[0-9]+)?)|(true|false)\b|([\[\],]))\s*"""
)
_HELP: Final = (
    "write it like node:os == 'macos', node:os IN ['linux', 'windows'] or custom:x IS SET"
)


class Operator(StrEnum):
    """What a condition asks of an attribute."""

    EQUAL = "=="
    UNEQUAL = "!="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    MORE = ">"
    MORE_OR_EQUAL = ">="
    IN = "IN"
    NOT_IN = "NOT IN"
    SET = "IS SET"
    NOT_SET = "NOT SET"


_ORDERS: Final[Mapping[Operator, Callable[[Any, Any], bool]]] = {
    Operator.LESS: lt,
    Operator.LESS_OR_EQUAL: le,
    Operator.MORE: gt,
    Operator.MORE_OR_EQUAL: ge,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition.

    Attributes:
        name: of the attribute, e.g. ``node:os``.
        values: what it is compared with: none for SET and NOT_SET, any number for IN and NOT_IN,
            else one.
    """

    name: str
    operator: Operator
    values: tuple[Attribute, ...] = ()

    def __str__(self) -> str:
        """Return its text in one spelling; `parse_condition` reads it back."""
        match self.operator:
            case Operator.SET | Operator.NOT_SET:
                return f"{self.name} {self.operator}"
            case Operator.IN | Operator.NOT_IN:
                return f"{self.name} {self.operator} [{', '.join(map(_literal, self.values))}]"
            case _:
                return f"{self.name} {self.operator} {_literal(self.values[0])}"


@dataclass(frozen=True, slots=True)
class Posture:
    """A named posture: all conditions must hold."""

    name: str
    conditions: tuple[Condition, ...]
    span: Span | None = field(default=None, compare=False)


def evaluate(posture: Posture, attributes: Attributes) -> bool:
    """Say whether a device with these attributes has the posture."""
    return all(_holds(one, attributes) for one in posture.conditions)


def _holds(condition: Condition, attributes: Attributes) -> bool:
    operator, name = condition.operator, condition.name
    have = attributes.get(name)
    if have is None:
        return operator is Operator.NOT_SET
    match operator:
        case Operator.SET:
            return True
        case Operator.NOT_SET:
            return False
        case Operator.EQUAL | Operator.IN:
            return any(_same(name, have, one) for one in condition.values)
        case Operator.UNEQUAL | Operator.NOT_IN:
            return not any(_same(name, have, one) for one in condition.values)
        case _:
            low, high = _key(name, have), _key(name, condition.values[0])
            return low[0] == high[0] and _ORDERS[operator](low[1], high[1])


def _same(name: str, have: Attribute, wanted: Attribute) -> bool:
    return _key(name, have) == _key(name, wanted)


def _key(name: str, value: Attribute) -> tuple[str, object]:
    """Return what a value compares by; values of different types are never the same.

    INVARIANT(types): to Python true is 1, to a policy it is not.
    """
    match value:
        case bool():
            return "bool", value
        case str() if name in _VERSIONS:
            return "version", version(value)
        case str():
            return "text", value
        case _:
            return "number", float(value)


def parse_condition(text: str) -> Condition | Malformed:
    """Read one condition; operators are read in any case, values as they are.

    A bare name asks for true: ``node:tsAutoUpdate``.
    """
    stripped = text.strip()
    found = _CONDITION.match(stripped)
    if found is None:
        return Malformed(f"{quoted(text)} is not a posture condition", _HELP)
    name, symbol, among, presence = found.groups()
    operator = Operator(" ".join((symbol or among or presence or "==").upper().split()))
    rest = stripped[found.end() :]
    if presence:
        values: tuple[Attribute, ...] | None = ()
    elif symbol or among:
        values = _values(rest, listed=bool(among))
    else:
        values = (True,)
    if values is None:
        return Malformed(f"{quoted(text)} is not a posture condition", _HELP)
    condition = Condition(name, operator, values)
    return _problem(condition, text) or condition


def _values(text: str, *, listed: bool) -> tuple[Attribute, ...] | None:
    """Read one literal, or several in brackets between commas; None when it is neither."""
    at, found, expected = 0, list[Attribute](), "[" if listed else "value"
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            return None
        at, mark = token.end(), token[5] or "value"
        if mark == "]" and expected in {",", "value or ]"}:
            return tuple(found) if at == len(text) else None
        if mark not in expected.split(" or "):
            return None
        if mark == "value":
            found.append(_literal_of(token))
            expected = "," if listed else "end"
        else:
            expected = "value or ]"
    return tuple(found) if expected == "end" else None


def _literal_of(token: re.Match[str]) -> Attribute:
    single, double, number, boolean = token.groups()[:4]
    if number is not None:
        return float(number)
    if boolean is not None:
        return boolean == "true"
    return str(single if single is not None else double)


def _literal(value: Attribute) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value}"' if "'" in value else f"'{value}'"
        case _:
            return f"{value:f}".rstrip("0").removesuffix(".")


def _problem(condition: Condition, text: str) -> Malformed | None:
    """Return what is wrong with the types of a condition that is well formed."""
    name, operator = condition.name, condition.operator
    if name.startswith("node:") and name not in NODE_ATTRIBUTES:
        near = nearest(name, NODE_ATTRIBUTES)
        help_ = f"did you mean {quoted(near)}?" if near else f"known: {', '.join(NODE_ATTRIBUTES)}"
        return Malformed(f"posture attribute {quoted(name)} is not known", help_)
    wanted = NODE_ATTRIBUTES.get(name)
    if wanted is not None and any(type(one) is not wanted for one in condition.values):
        return Malformed(f"{quoted(text)}: {name} is {_WORDS[wanted]}", _HELP)
    ordered = operator in _ORDERS and name not in _VERSIONS
    if ordered and type(condition.values[0]) is not float:
        message = f"{quoted(text)}: {operator} compares numbers and versions only"
        return Malformed(message, "versions are node:osVersion and node:tsVersion")
    return None
