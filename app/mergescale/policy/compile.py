"""`PolicyDocument` -> `CompiledPolicy`, in `STAGES`, each of which returns a new draft.

Nothing here knows a node: the same document always compiles to the same value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from mergescale.policy.compiled import (
    CompiledPolicy,
    CompiledRule,
    Lookup,
    SourceList,
    TargetKind,
    Wide,
)
from mergescale.policy.diagnostics import Span
from mergescale.policy.document import PolicyDocument, Rule
from mergescale.policy.ownership import own
from mergescale.policy.ports import Ports
from mergescale.policy.principals import Principal, groups_of, named
from mergescale.policy.segments import cut
from mergescale.policy.selectors import (
    INTERNET,
    SELF,
    Autogroup,
    Everyone,
    Host,
    Net,
    Range,
    Selector,
)

#: Twelve hex digits: a tailnet has thousands of rules, not millions.
_NAME_DIGITS: Final = 12


class _Reach(NamedTuple):
    target: TargetKind
    ports: Ports
    protocols: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Flow:
    """A rule on its way: one source list, what it reaches, and from `name_flows` on its name."""

    sources: SourceList
    reach: tuple[_Reach, ...]
    origin: Span
    name: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """What the stages have made so far."""

    document: PolicyDocument
    flows: tuple[_Flow, ...] = ()
    sources: Mapping[SourceList, int] = field(default_factory=dict)
    targets: Mapping[TargetKind, int] = field(default_factory=dict)


def resolve_names(draft: Draft) -> Draft:
    """Put addresses in the place of hosts, and sort sources and targets by what they mean."""
    hosts = draft.document.hosts
    return replace(draft, flows=tuple(_flow(rule, hosts) for rule in draft.document.rules))


def drop_empty(draft: Draft) -> Draft:
    """Leave out rules without sources or targets: they admit nothing."""
    return replace(
        draft, flows=tuple(one for one in draft.flows if one.reach and not one.sources.empty)
    )


def split_flows(draft: Draft) -> Draft:
    """Make one flow per protocol set, and one of its own for ``autogroup:self``.

    A tailcfg.FilterRule has one protocol list, and its sources are those of the viewer's own
    user where it leads to ``autogroup:self``.
    """
    flows = []
    for flow in draft.flows:
        parts: dict[tuple[tuple[int, ...], bool], list[_Reach]] = {}
        for one in flow.reach:
            key = one.protocols, one.target is Wide.OWN_DEVICES
            parts.setdefault(key, []).append(one)
        flows += [replace(flow, reach=tuple(dict.fromkeys(part))) for part in parts.values()]
    return replace(draft, flows=tuple(flows))


def name_flows(draft: Draft) -> Draft:
    """Name flows by what they say; those that say the same collapse into the first."""
    by_name: dict[str, _Flow] = {}
    for flow in draft.flows:
        name = _name(flow)
        by_name.setdefault(name, replace(flow, name=name))
    return replace(draft, flows=tuple(by_name.values()))


def number(draft: Draft) -> Draft:
    """Number the distinct source lists and the distinct targets."""
    sources = dict.fromkeys(flow.sources for flow in draft.flows)
    targets = dict.fromkeys(one.target for flow in draft.flows for one in flow.reach)
    return replace(
        draft,
        sources={one: index for index, one in enumerate(sources)},
        targets={one: index for index, one in enumerate(targets)},
    )


#: In order; each is pure.
STAGES: Final[tuple[Callable[[Draft], Draft], ...]] = (
    resolve_names,
    drop_empty,
    split_flows,
    name_flows,
    number,
)


def compile_policy(document: PolicyDocument) -> CompiledPolicy:
    """Run the stages and build the tables that resolving needs."""
    draft = Draft(document)
    for stage in STAGES:
        draft = stage(draft)
    rules = [
        (_numbered(flow, draft), flow.reach[0].target is Wide.OWN_DEVICES) for flow in draft.flows
    ]
    own_rules = tuple(rule for rule, to_self in rules if to_self)
    return CompiledPolicy(
        document=document,
        rules=tuple(rule for rule, to_self in rules if not to_self),
        own_rules=own_rules,
        sources=tuple(draft.sources),
        targets=tuple(draft.targets),
        source_lookup=_source_lookup(draft.sources),
        target_lookup=_target_lookup(draft.targets),
        own_sources=_bits(rule.source for rule in own_rules),
        internet=_bits(bit for one, bit in draft.targets.items() if one is Wide.INTERNET),
        groups_of=groups_of(document),
        ownership=own(document),
    )


def _flow(rule: Rule, hosts: Mapping[str, Range]) -> _Flow:
    ranges = {found for one in rule.sources if (found := _range(one, hosts)) is not None}
    sources = SourceList(
        named(rule.sources),
        frozenset(ranges),
        any(isinstance(one, Everyone) for one in rule.sources),
    )
    reach = tuple(
        _Reach(_target(one.selector, hosts), one.ports, one.protocols) for one in rule.targets
    )
    return _Flow(sources, reach, rule.origin)


def _range(selector: Selector, hosts: Mapping[str, Range]) -> Range | None:
    match selector:
        case Net(found):
            return found
        case Host(name):
            return hosts[name]
        case _:
            return None


def _target(selector: Selector, hosts: Mapping[str, Range]) -> TargetKind:
    match selector:
        case Everyone():
            return Wide.ANYTHING
        case Autogroup(name) if name == INTERNET:
            return Wide.INTERNET
        case Autogroup(name) if name == SELF:
            return Wide.OWN_DEVICES
        case _:
            found = _range(selector, hosts)
            return Principal(str(selector)) if found is None else found


def _name(flow: _Flow) -> str:
    sources = [*flow.sources.principals, *(one.text for one in flow.sources.ranges)]
    parts = [
        "*" if flow.sources.everyone else "",
        *sorted(sources),
        ">",
        *sorted(f"{_text(one.target)} {one.ports}" for one in flow.reach),
        ">",
        *(str(one) for one in flow.reach[0].protocols),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:_NAME_DIGITS]


def _text(target: TargetKind) -> str:
    return target.text if isinstance(target, Range) else str(target)


def _numbered(flow: _Flow, draft: Draft) -> CompiledRule:
    return CompiledRule(
        name=flow.name,
        source=draft.sources[flow.sources],
        targets=tuple((draft.targets[one.target], one.ports) for one in flow.reach),
        among=_bits({draft.targets[one.target] for one in flow.reach}),
        protocols=flow.reach[0].protocols,
        origin=flow.origin,
    )


def _source_lookup(sources: Mapping[SourceList, int]) -> Lookup:
    by_principal: dict[Principal, int] = {}
    for one, bit in sources.items():
        for principal in one.principals:
            by_principal[principal] = by_principal.get(principal, 0) | 1 << bit
    return Lookup(
        by_principal,
        cut((bit, each) for one, bit in sources.items() for each in one.ranges),
        _bits(bit for one, bit in sources.items() if one.everyone),
    )


def _target_lookup(targets: Mapping[TargetKind, int]) -> Lookup:
    by_principal = {}
    ranges = []
    for one, bit in targets.items():
        match one:
            case Wide():
                continue
            case Range():
                ranges.append((bit, one))
            case _:
                by_principal[one] = 1 << bit
    return Lookup(
        by_principal,
        cut(ranges),
        _bits(bit for one, bit in targets.items() if one is Wide.ANYTHING),
    )


def _bits(numbers: Iterable[int]) -> int:
    bits = 0
    for one in numbers:
        bits |= 1 << one
    return bits
