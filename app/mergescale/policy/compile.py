"""`PolicyDocument` -> `CompiledPolicy`, in `STAGES`, each of which returns a new draft.

Nothing here knows a node: the same document always compiles to the same value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from mergescale.domain.access import Capabilities
from mergescale.policy.attributes import DISABLE_IPV4, Attributes
from mergescale.policy.capabilities import companions
from mergescale.policy.compiled import (
    CompiledPolicy,
    CompiledRule,
    Gates,
    Held,
    Lookup,
    SourceList,
    Steered,
    TargetKind,
    Wide,
)
from mergescale.policy.diagnostics import Span
from mergescale.policy.document import PolicyDocument, Rule
from mergescale.policy.ownership import own
from mergescale.policy.ports import ALL_PORTS, Ports
from mergescale.policy.postures import Posture
from mergescale.policy.principals import Principal, groups_of, named, principal
from mergescale.policy.segments import cut
from mergescale.policy.selectors import (
    DANGER_ALL,
    Autogroup,
    Everyone,
    Host,
    IpSet,
    Net,
    Range,
    Selector,
)
from mergescale.policy.ssh.compile import compile_ssh, ssh_sources, ssh_targets

#: Twelve hex digits: a tailnet has thousands of rules, not millions.
_NAME_DIGITS: Final = 12


class _Reach(NamedTuple):
    target: TargetKind
    ports: Ports
    protocols: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Flow:
    """A rule on its way: one source list, what it reaches, and from `name_flows` on its name.

    Attributes:
        capabilities: what it grants there; empty for packets.
    """

    sources: SourceList
    reach: tuple[_Reach, ...]
    origin: Span
    capabilities: Capabilities = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """What the stages have made so far."""

    document: PolicyDocument
    flows: tuple[_Flow, ...] = ()
    sources: Mapping[SourceList, int] = field(default_factory=dict)
    targets: Mapping[TargetKind, int] = field(default_factory=dict)


def resolve_names(draft: Draft) -> Draft:
    """Put addresses in the place of names, and make of each rule its packets and its grants."""
    document = draft.document
    places = _Places(document.hosts, document.ip_sets)
    flows = [
        flow
        for rule in draft.document.rules
        for flow in (_packets(rule, places), *_grants(rule, places))
    ]
    return replace(draft, flows=tuple(flows))


def drop_empty(draft: Draft) -> Draft:
    """Leave out rules without sources or targets: they admit nothing."""
    return replace(
        draft, flows=tuple(one for one in draft.flows if one.reach and not one.sources.empty)
    )


def split_sources(draft: Draft) -> Draft:
    """Make a flow of its own for addresses of devices that need a posture.

    Who is named is listed with both addresses; who is only written, with those that are written.
    """
    flows: list[_Flow] = []
    for flow in draft.flows:
        one = flow.sources
        rest = replace(one, ranges=frozenset())
        if not one.postures or not one.ranges or rest.empty:
            flows.append(flow)
            continue
        written = SourceList(frozenset(), one.ranges, everyone=False, postures=one.postures)
        flows += [replace(flow, sources=rest), replace(flow, sources=written)]
    return replace(draft, flows=tuple(flows))


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
    sources |= dict.fromkeys(ssh_sources(draft.document))
    targets |= dict.fromkeys(ssh_targets(draft.document))
    return replace(
        draft,
        sources={one: index for index, one in enumerate(sources)},
        targets={one: index for index, one in enumerate(targets)},
    )


#: In order; each is pure.
STAGES: Final[tuple[Callable[[Draft], Draft], ...]] = (
    resolve_names,
    drop_empty,
    split_sources,
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
        gates=_gates(draft.sources, document.postures),
        groups_of=groups_of(document),
        ownership=own(document),
        attributes=_attributes(document),
        ssh=compile_ssh(document, draft.sources, draft.targets),
    )


def _attributes(document: PolicyDocument) -> Attributes:
    """Number the target lists of ``nodeAttrs``, apart from the sources of rules; then systems."""
    places = _Places(document.hosts, document.ip_sets)
    lists = [one.system or places.sources(one.targets) for one in document.node_attributes]
    numbers = {one: number for number, one in enumerate(dict.fromkeys(lists))}
    entries = tuple(zip((numbers[one] for one in lists), document.node_attributes, strict=True))
    return Attributes(
        entries=entries,
        lookup=_source_lookup(
            {one: n for one, n in numbers.items() if isinstance(one, SourceList)}
        ),
        by_system={one: 1 << n for one, n in numbers.items() if isinstance(one, str)},
        without_ipv4=_bits({number for number, one in entries if DISABLE_IPV4 in one.names}),
    )


@dataclass(frozen=True, slots=True)
class _Places:
    """What names of addresses stand for."""

    hosts: Mapping[str, Range]
    ip_sets: Mapping[str, tuple[Range, ...]]

    def ranges(self, selector: Selector) -> tuple[Range, ...]:
        match selector:
            case Net(found):
                return (found,)
            case Host(name):
                return (self.hosts[name],)
            case IpSet(name):
                return self.ip_sets[name]
            case _:
                return ()

    def sources(self, selectors: Iterable[Selector], postures: Iterable[str] = ()) -> SourceList:
        ones = tuple(selectors)
        return SourceList(
            named(ones),
            frozenset(found for one in ones for found in self.ranges(one)),
            everyone=any(isinstance(one, Everyone) for one in ones),
            anyone=any(isinstance(one, Autogroup) and one.name == DANGER_ALL for one in ones),
            postures=frozenset(postures),
        )

    def targets(self, selector: Selector) -> tuple[TargetKind, ...]:
        match selector:
            case Everyone():
                return (Wide.ANYTHING,)
            case Autogroup("internet"):
                return (Wide.INTERNET,)
            case Autogroup("self"):
                return (Wide.OWN_DEVICES,)
            case Autogroup("danger-all"):
                return (Wide.ANYTHING,)
            case _:
                name = principal(selector)
                return self.ranges(selector) if name is None else (name,)


def _packets(rule: Rule, places: _Places) -> _Flow:
    via = named(rule.via)
    reach = [
        _Reach(target, one.ports, one.protocols)
        for one in rule.targets
        for each in places.targets(one.selector)
        if (target := _steered(each, via)) is not None
    ]
    return _Flow(places.sources(rule.sources, rule.postures), tuple(reach), rule.origin)


def _steered(target: TargetKind, via: frozenset[Principal]) -> TargetKind | None:
    """Narrow a target to tagged routers; None for nodes, to which no router leads."""
    match target:
        case _ if not via:
            return target
        case Range() | Wide():
            return Steered(target, via)
        case _:
            return None


def _grants(rule: Rule, places: _Places) -> Iterator[_Flow]:
    """Yield what `rule` lets applications do, and what that gives the other way round."""
    if not rule.capabilities:
        return
    sources = places.sources(rule.sources, rule.postures)
    holders = [_held(each) for one in rule.holders for each in places.targets(one)]
    yield _Flow(sources, _whole(holders), rule.origin, rule.capabilities)
    to_self = [one for one in holders if one is Wide.OWN_DEVICES]
    back = [_held(each) for one in rule.sources for each in places.targets(one)]
    for returned in companions(rule.capabilities):
        yield _Flow(sources, _whole(to_self), rule.origin, returned)
        yield _Flow(places.sources(rule.holders), _whole(back), rule.origin, returned)


def _held(target: TargetKind) -> TargetKind:
    return Held(target) if isinstance(target, Range) else target


def _whole(targets: Iterable[TargetKind]) -> tuple[_Reach, ...]:
    return tuple(_Reach(one, ALL_PORTS, ()) for one in targets)


def _name(flow: _Flow) -> str:
    sources = [*flow.sources.principals, *(one.text for one in flow.sources.ranges)]
    parts = [
        f"{'*' if flow.sources.everyone else ''}{'!' if flow.sources.anyone else ''}",
        *sorted(sources),
        *sorted(flow.sources.postures),
        ">",
        *sorted(f"{_text(one.target)} {one.ports}" for one in flow.reach),
        ">",
        *(str(one) for one in flow.reach[0].protocols),
        *(f"{name} {values!r}" for name, values in flow.capabilities),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:_NAME_DIGITS]


def _text(target: TargetKind) -> str:
    match target:
        case Range(text=text):
            return text
        case Held(at):
            return f"held {at.text}"
        case Steered(to, via):
            return f"{_text(to)} via {' '.join(sorted(via))}"
        case _:
            return str(target)


def _numbered(flow: _Flow, draft: Draft) -> CompiledRule:
    return CompiledRule(
        name=flow.name,
        source=draft.sources[flow.sources],
        targets=tuple((draft.targets[one.target], one.ports) for one in flow.reach),
        among=_bits({draft.targets[one.target] for one in flow.reach}),
        protocols=flow.reach[0].protocols,
        origin=flow.origin,
        capabilities=flow.capabilities,
    )


def _source_lookup(sources: Mapping[SourceList, int]) -> Lookup:
    by_principal: dict[Principal, int] = {}
    for one, bit in sources.items():
        for name in one.principals:
            by_principal[name] = by_principal.get(name, 0) | 1 << bit
    return Lookup(
        by_principal,
        cut((bit, each) for one, bit in sources.items() if not one.postures for each in one.ranges),
        _bits(bit for one, bit in sources.items() if one.everyone or one.anyone),
        cut((bit, each) for one, bit in sources.items() if one.postures for each in one.ranges),
    )


def _gates(sources: Mapping[SourceList, int], postures: Mapping[str, Posture]) -> Gates:
    opens: dict[str, int] = {}
    for one, bit in sources.items():
        for name in one.postures:
            opens[name] = opens.get(name, 0) | 1 << bit
    return Gates(
        _bits(bit for one, bit in sources.items() if one.postures),
        tuple((postures[name], bits) for name, bits in opens.items()),
    )


def _target_lookup(targets: Mapping[TargetKind, int]) -> Lookup:
    by_principal: dict[Principal, int] = {}
    met: list[tuple[int, Range]] = []
    held: list[tuple[int, Range]] = []
    steered: list[tuple[int, Steered]] = []
    for one, bit in targets.items():
        match one:
            case Wide():
                continue
            case Range():
                met.append((bit, one))
            case Held(at):
                held.append((bit, at))
            case Steered():
                steered.append((1 << bit, one))
            case _:
                by_principal[one] = 1 << bit
    always = _bits(bit for one, bit in targets.items() if one is Wide.ANYTHING)
    return Lookup(by_principal, cut(met), always, cut(held), tuple(steered))


def _bits(numbers: Iterable[int]) -> int:
    bits = 0
    for one in numbers:
        bits |= 1 << one
    return bits
