"""Who and what a rule names: parsed once, typed from then on.

A selector's place is not part of what it says: two selectors at different places are equal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from mergescale.domain.user import Role
from mergescale.policy.diagnostics import Span, quoted

MEMBER: Final = "member"
TAGGED: Final = "tagged"
INTERNET: Final = "internet"
SELF: Final = "self"
#: Every address there is, in the tailnet or not.
DANGER_ALL: Final = "danger-all"
#: People of other tailnets whom a device is shared with; this server has no sharing, so nobody.
SHARED: Final = "shared"
#: Autogroups of people with one role, as ``users.hujson`` gives it.
ROLES: Final = frozenset(role.value for role in Role if role is not Role.MEMBER)
#: Autogroups that name people; only they can be sources of ``autogroup:self``.
PEOPLE: Final = frozenset({MEMBER, SHARED}) | ROLES
#: What each may be written as -> the one name it goes by.
_AUTOGROUPS: Final = {
    "members": MEMBER,
    **{name: name for name in (TAGGED, INTERNET, SELF, DANGER_ALL, *PEOPLE)},
}
_IPV4: Final = 4
_TAG: Final = re.compile(r"tag:[a-zA-Z][a-zA-Z0-9-]*")
_GROUP: Final = re.compile(r"group:\S+")
_IPSET: Final = re.compile(r"ipset:\S+")
_SERVICE: Final = re.compile(r"svc:[a-z][a-z0-9-]*")
_USER: Final = re.compile(r"[^\s@:]+@[^\s@:]*")
#: What stands for a name of ``hosts``.
_HOST: Final = re.compile(r"[^\s:@%*/\"]+")
_DOMAIN_USERS: Final = re.compile(r"user:\*@([^\s@:]+)")


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
class DomainUsers:
    """``user:*@domain``: everybody whose login ends in the domain, which is the tailnet's own."""

    domain: str
    span: Span = field(compare=False, repr=False)

    def __str__(self) -> str:
        return f"user:*@{self.domain}"


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
class IpSet:
    """``ipset:name``, declared in ``ipsets``."""

    name: str
    span: Span = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Service:
    """``svc:name``: a service that several devices may offer under one address."""

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


Selector = Everyone | User | DomainUsers | Group | Tag | Autogroup | Host | IpSet | Service | Net


@dataclass(frozen=True, slots=True)
class Malformed:
    """Why a text is no selector."""

    message: str
    help: str = ""


def parse_selector(text: str, span: Span) -> Selector | Malformed:
    """Read a selector; whether what it names is declared is the caller's question.

    SPEC(hosted service): white space around it does not count.
    """
    text = text.strip()
    if text == "*":
        return Everyone(span)
    prefix, colon, _ = text.partition(":")
    special = _PREFIXED.get(prefix) if colon else None
    if special is not None:
        return special(text, span)
    if "@" in text:
        good = _USER.fullmatch(text) is not None
        return User(text.casefold(), span) if good else Malformed(f"{quoted(text)} is not a login")
    found = parse_range(text)
    if isinstance(found, Malformed):
        return found
    if found is None and not _HOST.fullmatch(text):
        return Malformed(f"{quoted(text)}: invalid address")
    return Host(text, span) if found is None else Net(found, span)


def _autogroup(text: str, span: Span) -> Selector | Malformed:
    name = text.removeprefix("autogroup:")
    known = _AUTOGROUPS.get(name)
    if known is None:
        near = get_close_matches(name, _AUTOGROUPS, 1)
        help_ = f'did you mean "autogroup:{near[0]}"?' if near else ""
        return Malformed(f"autogroup {quoted(name)} is not known", help_)
    return Autogroup(known, span)


def _tag(text: str, span: Span) -> Selector | Malformed:
    problem = tag_problem(text)
    return Malformed(problem) if problem else Tag(text, span)


def _group(text: str, span: Span) -> Selector | Malformed:
    problem = group_problem(text)
    return Malformed(problem) if problem else Group(text, span)


def _domain_users(text: str, span: Span) -> Selector | Malformed:
    found = _DOMAIN_USERS.fullmatch(text)
    if found is None:
        return Malformed(f"{quoted(text)} is not valid", 'write "user:*@example.com"')
    return DomainUsers(found[1], span)


def _ip_set(text: str, span: Span) -> Selector | Malformed:
    good = _IPSET.fullmatch(text) is not None
    return IpSet(text, span) if good else Malformed(f"{quoted(text)} is not the name of an ipset")


def _service(text: str, span: Span) -> Selector | Malformed:
    good = _SERVICE.fullmatch(text) is not None
    return Service(text, span) if good else Malformed(f"{quoted(text)} is not a service name")


def _posture(text: str, span: Span) -> Selector | Malformed:  # noqa: ARG001 - as its siblings
    return Malformed(f"{quoted(text)} is a posture, not a device", "postures go into srcPosture")


_PREFIXED: Final = {
    "autogroup": _autogroup,
    "tag": _tag,
    "group": _group,
    "user": _domain_users,
    "ipset": _ip_set,
    "svc": _service,
    "posture": _posture,
}


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


def range_of(version: int, first: int, last: int) -> Range:
    """Return a range by its ends: spelt as an address or a CIDR where it is one."""
    kind = IPv4Address if version == _IPV4 else IPv6Address
    low, high = kind(first), kind(last)
    size = last - first + 1
    if size & (size - 1) == 0 and first % size == 0:
        length = low.max_prefixlen - (size.bit_length() - 1)
        text = str(low) if size == 1 else f"{low}/{length}"
    else:
        text = f"{low}-{high}"
    return Range(version, first, last, text)


def _numeric(text: str) -> bool:
    return re.fullmatch(r"[0-9a-fA-F.:/-]+", text) is not None
