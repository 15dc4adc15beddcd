"""Warns of what a policy may say and yet hardly means: it has no effect, or nobody can use it.

Told only where it is certain whatever devices there are, since a warning that is wrong is worse than
none. ``ssh.reachability`` does the same for ssh rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from mergescale.policy.diagnostics import Report, quoted
from mergescale.policy.document import PolicyDocument, Rule, Target
from mergescale.policy.ports import DEFAULT_PROTOCOLS
from mergescale.policy.principals import GroupsOf, groups_of
from mergescale.policy.selectors import (
    MEMBER,
    ROLES,
    SHARED,
    Autogroup,
    DomainUsers,
    Everyone,
    Group,
    IpSet,
    Net,
    Selector,
    Tag,
    User,
)

#: LIMIT: pairs of rules that are compared; a hostile file must not cost more than reading it.
_MAX_PAIRS: Final = 20_000
_TAGS: Final = "tags.hujson"
#: Stands for all written addresses among the names of sources.
_WRITTEN: Final = "address"


def warn_dubious(document: PolicyDocument, report: Report, *, all_known: bool) -> None:
    """Note warnings at their places.

    Args:
        document: of a policy without errors.
        report: gets the warnings.
        all_known: its roles are those of everybody there is (``users.hujson``).
    """
    _warn_tags(document, report, all_known=all_known)
    for selector in _used(document):
        if why := _why_nobody(selector, document, all_known=all_known):
            message = f"{quoted(str(selector))} stands for nobody: {why}"
            help_ = "what it stands in has no effect for it"
            report.warn("policy.nobody", selector.span, message, help_)
    _warn_shadowed(document, report)


def _warn_tags(document: PolicyDocument, report: Report, *, all_known: bool) -> None:
    for tag, owners in document.tag_owners.items():
        # Beside a description, no owners at all are how one says that operators give the tag.
        if not owners and document.tag_places[tag].file == _TAGS:
            continue
        if all(_why_nobody(one, document, all_known=all_known) for one in owners):
            message = f"nobody owns {quoted(tag)}"
            help_ = "only an operator of the server can give it to devices"
            report.warn("policy.no-owner", document.tag_places[tag], message, help_)


def _used(document: PolicyDocument) -> Iterator[Selector]:
    """Yield the selectors of everything that has an effect."""
    for rule in document.rules:
        yield from rule.sources
        yield from (one.selector for one in rule.targets)
        yield from rule.holders
    for entry in document.ssh:
        yield from (*entry.sources, *entry.targets)
    for attribute in document.node_attributes:
        yield from attribute.targets


def _why_nobody(selector: Selector, document: PolicyDocument, *, all_known: bool) -> str:
    match selector:
        case Group(name) if not document.groups.get(name, ("",)):
            return "the group has no members"
        case IpSet(name) if not document.ip_sets.get(name, ("",)):
            return "the set has no addresses"
        case Autogroup(name) if name == SHARED:
            return "this server has no sharing between tailnets"
        case Autogroup(name) if name in ROLES and all_known:
            held = {str(role) for role in document.roles.values()}
            return "" if name in held else "nobody has this role in users.hujson"
        case _:
            return ""


def _warn_shadowed(document: PolicyDocument, report: Report) -> None:
    """Note rules that admit nothing which another rule does not admit as well."""
    rules = document.rules
    by_source: dict[str, list[int]] = {}
    for number, rule in enumerate(rules):
        for name in {_WRITTEN if isinstance(one, Net) else str(one) for one in rule.sources}:
            by_source.setdefault(name, []).append(number)
    groups = groups_of(document)
    pairs = 0
    for number, rule in enumerate(rules):
        if rule.capabilities or not (rule.sources and rule.targets):
            continue
        for other in _candidates(rule, by_source, document, groups):
            pairs += 1
            if pairs > _MAX_PAIRS:
                return
            if other != number and _shadows(rules, other, number, document):
                place = rules[other].origin
                message = (
                    "this rule admits nothing that another one does not admit:"
                    f" {place.file}:{place.start_line}"
                )
                report.warn("policy.shadowed", rule.origin, message, "remove it, or the other one")
                break


def _candidates(
    rule: Rule, by_source: dict[str, list[int]], document: PolicyDocument, groups: GroupsOf
) -> Iterator[int]:
    """Yield the rules that may have a source which holds the first source of this one."""
    first = rule.sources[0]
    names = [str(first), "*", f"autogroup:{MEMBER}"]
    match first:
        case User(login):
            names += groups.get(login, ())
        case Group(name):
            names += [each for one in document.groups[name][:1] for each in groups[one]]
        case Net():
            names.append(_WRITTEN)
    for name in dict.fromkeys(names):
        yield from by_source.get(name, ())


def _shadows(rules: tuple[Rule, ...], other: int, number: int, document: PolicyDocument) -> bool:
    """Say whether rule `other` holds rule `number`; of two that are equal, the first one does."""
    if not _holds(rules[other], rules[number], document):
        return False
    if rules[other].capabilities or other < number:
        return True
    return not _holds(rules[number], rules[other], document)


def _holds(wide: Rule, narrow: Rule, document: PolicyDocument) -> bool:
    return bool(
        (not wide.postures or (narrow.postures and set(narrow.postures) <= set(wide.postures)))
        and (not wide.via or wide.via == narrow.via)
        and _all_held(narrow.sources, wide.sources, document)
        and all(
            any(_target_held(one, each, document) for each in wide.targets)
            for one in narrow.targets
        )
    )


def _all_held(
    narrow: Iterable[Selector], wide: tuple[Selector, ...], document: PolicyDocument
) -> bool:
    return all(any(_source_held(one, each, document) for each in wide) for one in narrow)


def _target_held(narrow: Target, wide: Target, document: PolicyDocument) -> bool:
    spoken = set(narrow.protocols or DEFAULT_PROTOCOLS)
    return (
        wide.ports.first <= narrow.ports.first
        and narrow.ports.last <= wide.ports.last
        and spoken <= set(wide.protocols or DEFAULT_PROTOCOLS)
        and (
            isinstance(wide.selector, Everyone)
            or _person_held(narrow.selector, wide.selector, document)
        )
    )


def _source_held(narrow: Selector, wide: Selector, document: PolicyDocument) -> bool:
    if isinstance(wide, Everyone):
        # ``*`` lists devices and approved subnets, not whatever address is written.
        return isinstance(narrow, Everyone | User | Group | Tag | DomainUsers) or (
            isinstance(narrow, Autogroup) and narrow.name != "danger-all"
        )
    return _person_held(narrow, wide, document)


def _person_held(narrow: Selector, wide: Selector, document: PolicyDocument) -> bool:
    """Say whether every device that `narrow` names is one that `wide` names."""
    if narrow == wide:
        return True
    match narrow, wide:
        case User(login), Group(name):
            return login in document.groups.get(name, ())
        case Group(name), Group(other):
            members = document.groups.get(name, ())
            return bool(members) and set(members) <= set(document.groups.get(other, ()))
        case ((User() | Group()), Autogroup(name)):
            return name == MEMBER
        case Net(one), Net(other_range):
            same = one.version == other_range.version
            return same and other_range.first <= one.first and one.last <= other_range.last
        case _:
            return False
