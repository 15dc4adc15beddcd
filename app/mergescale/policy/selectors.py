"""Who and what a rule names: parsed once, typed from then on.

A selector's place is not part of what it says: two selectors at different places are equal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Final

from mergescale.policy.diagnostics import Span, quoted

#: Autogroups of this version, with the one name they go by.
MEMBER: Final = "member"
TAGGED: Final = "tagged"
INTERNET: Final = "internet"
SELF: Final = "self"
_AUTOGROUPS: Final = {
    "member": MEMBER,
    "members": MEMBER,
    "tagged": TAGGED,
    "internet": INTERNET,
    "self": SELF,
}
_TAG: Final = re.compile(r"tag:[a-zA-Z][a-zA-Z0-9-]*")
_GROUP: Final = re.compile(r"group:\S+")
_USER: Final = re.compile(r"[^\s@:]+@[^\s@:]*")
_UNSUPPORTED: Final = {
    "svc": "services",
    "ipset": "IP sets",
    "posture": "device postures",
    "user": "user wildcards",
}


@dataclass(frozen=True, slots=True)
class Range:
    """Addresses `first` to `last` of one family, both included.

    Attributes:
        version: 4 or 6.
        text: tailcfg's form: an address, a CIDR without host bits, or ``a-b``.
    """

    version: int
    first: int
    last: int
    text: str

    def meets(self, version: int, first: int, last: int) -> bool:
        """Say whether it shares an address with first..last of that family."""
        return self.version == version and self.first <= last and first <= self.last


@dataclass(frozen=True, slots=True)
class Everyone:
    """``*``: as a source every node and approved subnet, as a destination anything."""

    span: Span = field(compare=False, repr=False)

    def __str__(self) -> str:
        return "*"


@dataclass(frozen=True, slots=True)
class User:
    """A login; ``name@`` for a login without a domain. Compared without case."""

    login: str
    span: Span = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.login


@dataclass(frozen=True, slots=True)
class Group:
    """``group:name``."""

    name: str
    span: Span = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Tag:
    """``tag:name``."""

    name: str
    span: Span = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Autogroup:
    """``autogroup:name``; `name` is one of the constants above."""

    name: str
    span: Span = field(compare=False, repr=False)

    def __str__(self) -> str:
        return f"autogroup:{self.name}"


@dataclass(frozen=True, slots=True)
class Host:
    """A name of ``hosts``."""

    name: str
    span: Span = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Net:
    """An address, a CIDR or a range."""

    range: Range
    span: Span = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.range.text


Selector = Everyone | User | Group | Tag | Autogroup | Host | Net


@dataclass(frozen=True, slots=True)
class Malformed:
    """Why a text is no selector."""

    message: str
    help: str = ""


def parse_selector(text: str, span: Span) -> Selector | Malformed:
    """Read a selector; whether what it names is declared is the caller's question."""
    prefix, colon, name = text.partition(":")
    match prefix if colon else "":
        case _ if text == "*":
            return Everyone(span)
        case "autogroup":
            known = _AUTOGROUPS.get(name)
            if known is None:
                return Malformed(f"autogroup {quoted(name)} is not supported")
            return Autogroup(known, span)
        case "tag":
            problem = tag_problem(text)
            return Malformed(problem) if problem else Tag(text, span)
        case "group":
            problem = group_problem(text)
            return Malformed(problem) if problem else Group(text, span)
        case kind if kind in _UNSUPPORTED:
            return Malformed(f"{quoted(text)}: {_UNSUPPORTED[kind]} are not supported")
    if "@" in text:
        good = _USER.fullmatch(text) is not None
        return User(text.casefold(), span) if good else Malformed(f"{quoted(text)} is not a login")
    found = parse_range(text)
    if isinstance(found, Malformed):
        return found
    return Host(text, span) if found is None else Net(found, span)


def tag_problem(text: str) -> str:
    """Return what is wrong with a tag's name, or an empty text."""
    if _TAG.fullmatch(text):
        return ""
    if not re.match(r"tag:[a-zA-Z]", text):
        return f"{quoted(text)}: tag names must start with a letter, after 'tag:'"
    return f"{quoted(text)}: tag names have only letters, digits and dashes"


def group_problem(text: str) -> str:
    """Return what is wrong with a group's name, or an empty text."""
    return "" if _GROUP.fullmatch(text) else f"{quoted(text)} is not a group name"


def parse_range(text: str) -> Range | Malformed | None:
    """Read an address, a CIDR or ``a-b``; None when the text does not look like one."""
    if "%" in text or not re.match(r"[0-9a-fA-F]*[.:]|[0-9.]+(/|$)", text):
        return None
    first, dash, last = text.partition("-")
    try:
        if dash:
            low, high = ip_address(first), ip_address(last)
            if low.version != high.version or int(low) > int(high):
                return Malformed(f"{quoted(text)}: the range ends before it starts")
            return Range(low.version, int(low), int(high), f"{low}-{high}")
        if "/" not in text:
            one = ip_address(text)
            return Range(one.version, int(one), int(one), str(one))
        net = ip_network(text, strict=False)
    except ValueError:
        return Malformed(f"{quoted(text)}: invalid address") if _numeric(text) else None
    if int(net.network_address) != int(ip_address(text.partition("/")[0])):
        return Malformed(f"{quoted(text)} has address bits after its prefix", f"write {net}")
    low, high = net.network_address, net.broadcast_address
    return Range(net.version, int(low), int(high), str(low if low == high else net))


def _numeric(text: str) -> bool:
    return re.fullmatch(r"[0-9a-fA-F.:/-]+", text) is not None
