"""``ipsets``: named sets of addresses, each a list of what is added and what is removed.

SPEC(published syntax): ``"ipset:prod": ["10.0.0.0/8", "add other-host", "remove ipset:lab"]``; entries
are applied in order, and one without a word adds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from mergescale.policy.diagnostics import quoted
from mergescale.policy.fields import members, texts
from mergescale.policy.hujson import Member, Value
from mergescale.policy.scope import Scope
from mergescale.policy.selectors import (
    Host,
    IpSet,
    Malformed,
    Net,
    Range,
    parse_selector,
    range_of,
)

#: LIMIT: stretches in one set; removing single addresses from a large net makes many.
MAX_STRETCHES: Final = 10_000

#: Both ends included, sorted, none touching the next; by address family.
_Stretches = dict[int, list[tuple[int, int]]]


def read_ip_sets(value: Value | None, scope: Scope) -> dict[str, tuple[Range, ...]]:
    """Read the section; what is wrong goes to the report of `scope`, whose hosts are known."""
    reader = _Reader(scope, {one.key: one for one in members(value, scope.report, "ipsets")})
    return {name: _ranges(reader.stretches(name)) for name in reader.declared}


@dataclass(slots=True)
class _Reader:
    """Reads each set once, following those that it names.

    Attributes:
        under_way: names that are being read; one that is met again goes in a circle.
    """

    scope: Scope
    declared: dict[str, Member]
    done: dict[str, _Stretches] = field(default_factory=dict)
    under_way: list[str] = field(default_factory=list)

    def stretches(self, name: str) -> _Stretches:
        if name not in self.done:
            self.under_way.append(name)
            self.done[name] = self._read(self.declared[name])
            self.under_way.pop()
        return self.done[name]

    def _read(self, member: Member) -> _Stretches:
        report, found = self.scope.report, _Stretches()
        if isinstance(parse_selector(member.key, member.key_span), Malformed | Host):
            message = f"{quoted(member.key)} is not the name of an ipset"
            report.error("policy.ipset", member.key_span, message, 'it starts with "ipset:"')
        for text, one in texts(member.value, report, f"the entries of {member.key}"):
            word, _, rest = text.strip().partition(" ")
            removes = word == "remove"
            named = rest.strip() if word in {"add", "remove"} and rest else text.strip()
            for version, part in self._named(named, one).items():
                stretches = found.get(version, [])
                found[version] = _minus(stretches, part) if removes else _plus(stretches, part)
        if sum(map(len, found.values())) > MAX_STRETCHES:
            message = f"{quoted(member.key)} has more than {MAX_STRETCHES} stretches of addresses"
            report.error("policy.ipset", member.key_span, message, "use larger CIDRs")
            return {}
        return found

    def _named(self, text: str, value: Value) -> _Stretches:
        report = self.scope.report
        match parse_selector(text, value.span):
            case Net(found):
                return {found.version: [(found.first, found.last)]}
            case IpSet(name) if name in self.under_way:
                message = f"ipsets go in a circle: {' -> '.join([*self.under_way, name])}"
                report.error("policy.ipset", value.span, message)
            case IpSet(name) if name in self.declared:
                return self.stretches(name)
            case IpSet(name):
                self.scope.missing("ipset", name, self.declared, value.span)
            case Host(name) if name in self.scope.hosts:
                found = self.scope.hosts[name]
                return {found.version: [(found.first, found.last)]}
            case Host(name):
                self.scope.missing("host", name, self.scope.hosts, value.span)
            case Malformed(message, help_):
                report.error("policy.ipset", value.span, message, help_)
            case _:
                message = f"{quoted(text)} is not an address"
                report.error("policy.ipset", value.span, message, "name addresses, hosts or ipsets")
        return {}


def _plus(base: list[tuple[int, int]], more: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join two sorted lists; stretches that touch become one."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted([*base, *more]):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(joined[-1][1], last)
        else:
            joined.append((first, last))
    return joined


def _minus(base: list[tuple[int, int]], less: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Cut the stretches of the second list out of the first; both sorted."""
    left: list[tuple[int, int]] = []
    for first, last in base:
        start = first
        for low, high in less:
            if high < start or low > last:
                continue
            if low > start:
                left.append((start, low - 1))
            start = high + 1
        if start <= last:
            left.append((start, last))
    return left


def _ranges(stretches: _Stretches) -> tuple[Range, ...]:
    return tuple(
        range_of(version, first, last)
        for version, all_of in sorted(stretches.items())
        for first, last in all_of
    )
