"""Warns of entries of ``ssh`` that never let anybody in: ``policy.ssh-unreachable``.

Told only where it is certain for devices of the named kinds, since a warning that is wrong is
worse than none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mergescale.policy.diagnostics import Report
from mergescale.policy.document import PolicyDocument, Rule, Target
from mergescale.policy.ports import DEFAULT_PROTOCOLS
from mergescale.policy.principals import TAGGED, Principal, named
from mergescale.policy.selectors import (
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


def warn_unreachable(document: PolicyDocument, report: Report) -> None:
    """Note a warning for each entry that has no effect, at its place."""
    for entry in document.ssh:
        if not (entry.sources and entry.targets):
            side = "dst" if entry.sources else "src"
            report.warn(_CODE, entry.origin, f"this ssh rule has no {side}, so it admits nobody")
    entries = in_force(document)
    for index, entry in enumerate(entries):
        other = next((one for one in entries[:index] if _covers(one, entry)), None)
        if other is not None:
            message = "this ssh rule never decides: an earlier one has the same sources and users"
            where = f"the rule at line {other.origin.start_line} comes first"
            if other.check_period is not None and entry.check_period is None:
                where += ", because rules that check come before those that accept"
            report.warn(_CODE, entry.origin, message, where)
        elif not any(_carries(rule, entry, document) for rule in document.rules):
            message = "no rule lets the sources of this ssh rule reach port 22 of its destinations"
            help_ = "admit tcp:22 between them in acls or grants"
            report.warn(_CODE, entry.origin, message, help_)


def _covers(first: SshEntry, later: SshEntry) -> bool:
    """Say whether whoever the later entry matches is matched by the first one before."""
    return (
        named(later.sources) <= named(first.sources)
        and named(later.targets) <= named(first.targets)
        and _same_or_more_logins(first, later)
    )


def _same_or_more_logins(first: SshEntry, later: SshEntry) -> bool:
    ours, theirs = first.logins, later.logins
    nonroot = {one for one in theirs.named if one != "root"} if ours.nonroot else set()
    return (
        set(theirs.named) <= set(ours.named) | nonroot
        and (ours.nonroot or not theirs.nonroot)
        and (not theirs.domain or ours.domain == theirs.domain)
    )


def _carries(rule: Rule, entry: SshEntry, document: PolicyDocument) -> bool:
    """Say whether a packet rule may let some source reach port 22 of some destination."""
    if not _meet(rule.sources, entry.sources, document):
        return False
    return any(
        _TCP in (target.protocols or DEFAULT_PROTOCOLS)
        and _SSH_PORT in target.ports
        and _leads(target, entry, document)
        for target in rule.targets
    )


def _leads(target: Target, entry: SshEntry, document: PolicyDocument) -> bool:
    """Say whether a packet target may be a destination; own devices are devices of the sources."""
    own = any(_is_self(one) for one in entry.targets)
    others = [one for one in entry.targets if not _is_self(one)]
    if _is_self(target.selector):
        return own or _meet(entry.sources, others, document)
    return _meet((target.selector,), (*others, *(entry.sources if own else ())), document)


def _is_self(selector: Selector) -> bool:
    return isinstance(selector, Autogroup) and selector.name == "self"


def _meet(ours: Iterable[Selector], theirs: Sequence[Selector], document: PolicyDocument) -> bool:
    return any(_overlap(one, other, document) for one in ours for other in theirs)


def _overlap(one: Selector, other: Selector, document: PolicyDocument) -> bool:
    """Say whether a device may be both; addresses and unknown kinds may be anybody's."""
    if one == other or isinstance(one, _ANYBODY):
        return True
    tags = [_is_tagged(each) for each in (one, other)]
    if all(tags):
        return not (isinstance(one, Tag) and isinstance(other, Tag))
    if any(tags):
        return False
    people = [_people(each, document) for each in (one, other)]
    return None in people or not people[0].isdisjoint(people[1])  # type: ignore[union-attr,arg-type]


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
