"""``ipsets``: named sets of addresses, each a list of what is added and what is removed.

SPEC(published syntax): ``"ipset:prod": ["10.0.0.0/8", "add other-host", "remove ipset:lab"]``; entries
are applied in order, and one without a word adds.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
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
#: LIMIT: sets that name sets; nobody follows more, and Python follows 1,000 calls.
MAX_DEPTH: Final = 50
#: LIMIT: stretches that are put into sets, or taken out, in all; sets that name large sets multiply them.
MAX_STEPS: Final = 200_000

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
        steps: stretches put in and taken out so far.
    """

    scope: Scope
    declared: dict[str, Member]
    done: dict[str, _Stretches] = field(default_factory=dict)
    under_way: list[str] = field(default_factory=list)
    steps: int = 0

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
            change = _remove if removes else _add
            for version, part in self._named(named, one).items():
                stretches = found.setdefault(version, [])
                for first, last in part if self._may(len(part), one) else ():
                    change(stretches, first, last)
            if sum(map(len, found.values())) > MAX_STRETCHES:
                name = quoted(member.key)
                message = f"{name} has more than {MAX_STRETCHES} stretches of addresses"
                report.error("policy.ipset", one.span, message, "use larger CIDRs")
                return {}
        return found

    def _may(self, steps: int, value: Value) -> bool:
        """Count steps; say whether they may be taken, and report the first that may not."""
        fits = self.steps <= MAX_STEPS
        self.steps += steps
        if fits and self.steps > MAX_STEPS:
            message = f"ipsets join more than {MAX_STEPS} stretches of addresses in all"
            help_ = "name large sets in fewer others"
            self.scope.report.error("policy.ipset", value.span, message, help_)
        return self.steps <= MAX_STEPS

    def _named(self, text: str, value: Value) -> _Stretches:
        report = self.scope.report
        match parse_selector(text, value.span):
            case Net(found):
                return {found.version: [(found.first, found.last)]}
            case IpSet(name) if name in self.under_way:
                circle = [*self.under_way[self.under_way.index(name) :], name]
                message = f"ipsets go in a circle: {' -> '.join(circle)}"
                report.error("policy.ipset", value.span, message)
            case IpSet(name) if name in self.declared and len(self.under_way) >= MAX_DEPTH:
                message = f"ipsets name each other more than {MAX_DEPTH} deep"
                report.error("policy.ipset", value.span, message, "list the addresses here")
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


def _add(stretches: list[tuple[int, int]], first: int, last: int) -> None:
    """Put a stretch into a sorted list; those that touch become one."""
    start = bisect_left(stretches, first - 1, key=_end)
    stop = bisect_right(stretches, last + 1, key=_start)
    if start < stop:
        first, last = min(first, stretches[start][0]), max(last, stretches[stop - 1][1])
    stretches[start:stop] = [(first, last)]


def _remove(stretches: list[tuple[int, int]], first: int, last: int) -> None:
    """Cut a stretch out of a sorted list."""
    start = bisect_left(stretches, first, key=_end)
    stop = bisect_right(stretches, last, key=_start)
    if start < stop:
        low, high = stretches[start][0], stretches[stop - 1][1]
        left = [(low, first - 1)] if low < first else []
        right = [(last + 1, high)] if last < high else []
        stretches[start:stop] = [*left, *right]


def _start(stretch: tuple[int, int]) -> int:
    return stretch[0]


def _end(stretch: tuple[int, int]) -> int:
    return stretch[1]


def _ranges(stretches: _Stretches) -> tuple[Range, ...]:
    return tuple(
        range_of(version, first, last)
        for version, all_of in sorted(stretches.items())
        for first, last in all_of
    )
