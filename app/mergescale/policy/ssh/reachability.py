"""Warns of entries of ``ssh`` that never let anybody in: ``policy.ssh-unreachable``.

Told only where it is certain for devices of the named kinds, since a warning that is wrong is
worse than none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mergescale.policy.diagnostics import Report
from mergescale.policy.document import PolicyDocument
from mergescale.policy.ports import DEFAULT_PROTOCOLS
from mergescale.policy.principals import TAGGED, Principal
from mergescale.policy.selectors import (
    SELF,
    SHARED,
    Autogroup,
    Everyone,
    Host,
    IpSet,
    Net,
    Selector,
    Service,
    Tag,
)
from mergescale.policy.ssh.compile import in_force
from mergescale.policy.ssh.document import SshEntry

_CODE = "policy.ssh-unreachable"
_TCP, _SSH_PORT = 6, 22
#: What says nothing of who has an address.
_ANYBODY = (Everyone, Host, Net, IpSet, Service)
#: LIMIT: comparisons for one policy, some 20 ms; what is not compared gets no warning.
_COMPARISONS = 20_000


def warn_unreachable(document: PolicyDocument, report: Report) -> None:
    """Note a warning for each entry that has no effect, at its place."""
    for entry in document.ssh:
        if not (entry.sources and entry.targets):
            side = "dst" if entry.sources else "src"
            report.warn(_CODE, entry.origin, f"this ssh rule has no {side}, so it admits nobody")
    survey = _Survey(document)
    for reading in survey.entries:
        entry, other = reading.entry, survey.covering(reading)
        if other is not None:
            message = "this ssh rule never decides: an earlier one has the same sources and users"
            where = f"the rule at line {other.origin.start_line} comes first"
            if other.check_period is not None and entry.check_period is None:
                where += ", because rules that check come before those that accept"
            report.warn(_CODE, entry.origin, message, where)
        elif not survey.carried(entry):
            message = "no rule lets the sources of this ssh rule reach port 22 of its destinations"
            help_ = "admit tcp:22 between them in acls or grants"
            report.warn(_CODE, entry.origin, message, help_)


@dataclass(frozen=True, slots=True, eq=False)
class _Reading:
    """An entry by the names in it."""

    entry: SshEntry
    sources: frozenset[str]
    targets: frozenset[str]
    users: frozenset[str]

    @classmethod
    def of(cls, entry: SshEntry) -> _Reading:
        """Read an entry."""
        return cls(
            entry,
            frozenset(map(str, entry.sources)),
            frozenset(map(str, entry.targets)),
            frozenset(entry.logins.named),
        )

    def covers(self, later: _Reading) -> bool:
        """Say whether whoever the later entry matches is matched by this one before."""
        ours, theirs = self.entry.logins, later.entry.logins
        extra = later.users - self.users
        return (
            later.sources <= self.sources
            and later.targets <= self.targets
            and (not extra or (ours.nonroot and "root" not in extra))
            and (ours.nonroot or not theirs.nonroot)
            and (not theirs.domain or ours.domain == theirs.domain)
        )


class _Survey:
    """What the entries of a policy are compared with.

    Attributes:
        entries: in the order that decides.
    """

    def __init__(self, document: PolicyDocument) -> None:
        self.entries = [_Reading.of(one) for one in in_force(document)]
        self._document = document
        self._left = _COMPARISONS
        self._earlier: dict[str, list[_Reading]] = {}
        self._flows = [
            (rule.sources, places)
            for rule in document.rules
            if (
                places := {
                    target.selector
                    for target in rule.targets
                    if _TCP in (target.protocols or DEFAULT_PROTOCOLS) and _SSH_PORT in target.ports
                }
            )
        ]

    def covering(self, later: _Reading) -> SshEntry | None:
        """Return an entry before this one that leaves nothing to it; each is asked once, in order."""
        found = None
        for one in self._earlier.get(min(later.targets), ()):
            if not self._may_compare():
                break
            if one.covers(later):
                found = one.entry
                break
        for target in later.targets:
            self._earlier.setdefault(target, []).append(later)
        return found

    def carried(self, entry: SshEntry) -> bool:
        """Say whether a packet rule may let some source reach port 22 of some destination."""
        own = any(map(_is_self, entry.targets))
        others = [one for one in entry.targets if not _is_self(one)]
        # Own devices are devices of the sources.
        places = (*others, *(entry.sources if own else ()))
        return any(
            self._meet(sources, entry.sources)
            and any(self._leads(target, entry, places) for target in targets)
            for sources, targets in self._flows
        )

    def _leads(self, target: Selector, entry: SshEntry, places: Iterable[Selector]) -> bool:
        if not _is_self(target):
            return self._meet((target,), places)
        return any(map(_is_self, entry.targets)) or self._meet(entry.sources, places)

    def _meet(self, ours: Iterable[Selector], theirs: Iterable[Selector]) -> bool:
        return any(
            not self._may_compare() or _overlap(one, other, self._document)
            for one in ours
            for other in theirs
        )

    def _may_compare(self) -> bool:
        self._left -= 1
        return self._left >= 0


def _is_self(selector: Selector) -> bool:
    return isinstance(selector, Autogroup) and selector.name == SELF


def _overlap(one: Selector, other: Selector, document: PolicyDocument) -> bool:
    """Say whether a device may be both; addresses and unknown kinds may be anybody's."""
    if one == other or isinstance(one, _ANYBODY):
        return True
    tags = [_is_tagged(each) for each in (one, other)]
    if all(tags):
        return not (isinstance(one, Tag) and isinstance(other, Tag))
    if any(tags):
        return False
    ours, theirs = _people(one, document), _people(other, document)
    return ours is None or theirs is None or not ours.isdisjoint(theirs)


def _is_tagged(selector: Selector) -> bool:
    return isinstance(selector, Tag) or str(selector) == TAGGED


def _people(selector: Selector, document: PolicyDocument) -> frozenset[str] | None:
    """Return the logins that it names, None when it may be anybody."""
    if isinstance(selector, Autogroup) and selector.name == SHARED:
        return frozenset()
    name = Principal(str(selector))
    if name in document.groups:
        return frozenset(document.groups[name])
    return frozenset({name}) if "@" in name and ":" not in name else None
