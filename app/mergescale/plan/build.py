"""Two declarations over one tailnet -> `Plan`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from mergescale.domain.declaration import Declaration
from mergescale.domain.prefixes import is_exit
from mergescale.domain.slots import each_bit
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.errors import LocalProtocolError
from mergescale.kernel.ids import Slot
from mergescale.plan.delivery import estimate
from mergescale.plan.difference import Difference, Row, difference, grants
from mergescale.plan.flows import Flow, Place, places_of, spelt
from mergescale.plan.gates import Connections, Limits, judge
from mergescale.plan.model import (
    VERSION,
    Blast,
    Identity,
    NodeEffect,
    Plan,
    Reach,
    Tests,
    Verdict,
)
from mergescale.plan.wording import Wording, ports
from mergescale.policy.compiled import CompiledPolicy
from mergescale.policy.coverage import cover
from mergescale.policy.diagnostics import Severity
from mergescale.policy.repository import selftest
from mergescale.policy.selectors import Tag, User

#: Changes when the same inputs would give another plan.
COMPILER: Final = "1"


@dataclass(frozen=True, slots=True)
class Side:
    """One side of the comparison.

    Attributes:
        tree: `tree_of` the texts.
        declaration: what they say.
        snapshot: the tailnet under it; both sides have the same nodes in the same slots.
    """

    tree: str
    declaration: Declaration
    snapshot: Snapshot


def tree_of(files: Mapping[str, str]) -> str:
    """Return a hash of the watched folder's files.

    Not git's tree: the server, which knows texts, and whoever has a work tree say the same.
    """
    return _hash(*(part for name in sorted(files) for part in (name, files[name])))


def make_plan(base: Side, head: Side, inventory: str, limits: Limits | None = None) -> Plan:
    """Compare two sides.

    Args:
        base: what is in force.
        head: what is proposed.
        inventory: `netmap.inventory.revision` of the nodes and users.
        limits: of the gates; None asks none.
    """
    judged = judge(base.snapshot, head.snapshot, limits or Limits())
    found = difference(base.snapshot, head.snapshot)
    wording = Wording(head.snapshot, base.snapshot)
    gained = tuple(_reach(found.gained, found, wording, head.snapshot))
    lost = tuple(_reach(found.lost, found, wording, head.snapshot))
    effects = tuple(_effects(base.snapshot, head.snapshot, found.filters))
    grown, shrunk = _beside_packets(base.snapshot, head.snapshot)
    return Plan(
        version=VERSION,
        hash=_hash(base.tree, head.tree, inventory, COMPILER),
        verdict=_verdict(widens=bool(gained) or grown, narrows=bool(lost) or shrunk),
        gained=gained,
        lost=lost,
        edges_gained=_edges(gained, found, wording, after=False),
        edges_lost=_edges(lost, found, wording, after=True),
        nodes=effects,
        identity=_identity(base, head),
        tests=_tests(base, head),
        blast=_blast(found, head.snapshot, len(effects), judged.connections),
        unresolved=_unresolved(_policy(head), head.snapshot),
        gates=() if limits is None else judged.findings,
        delivery=estimate(base.snapshot, head.snapshot, effects),
    )


def _policy(side: Side) -> CompiledPolicy:
    match side.declaration.policy:
        case CompiledPolicy() as policy:
            return policy
        case _:
            raise LocalProtocolError("a plan needs policies that were compiled")


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _verdict(*, widens: bool, narrows: bool) -> Verdict:
    match widens, narrows:
        case False, False:
            return Verdict.NO_EFFECT
        case True, False:
            return Verdict.WIDENING
        case False, True:
            return Verdict.NARROWING
        case _:
            return Verdict.MIXED


# ---------------------------------------------------------------------------- reachability


def _reach(
    rows: Iterable[Row], found: Difference, wording: Wording, snapshot: Snapshot
) -> Iterator[Reach]:
    """Yield one row for each set of sources and ports, with everything that they reach."""
    merged: dict[tuple[int, tuple[Flow, ...]], dict[Slot, set[Place]]] = {}
    for row in rows:
        by_slot = merged.setdefault((row.sources, row.flows), {})
        by_slot.setdefault(row.slot, set()).add(row.place)
    rows_out = []
    for (sources, flows), by_slot in merged.items():
        nodes, texts = _targets(by_slot, snapshot)
        dst = (*wording.words(nodes), *texts)
        pairs = sum((found.who.nodes(sources) & ~(1 << slot)).bit_count() for slot in by_slot)
        rows_out.append(Reach(wording.sources(sources, found.who), dst, ports(flows), pairs))
    yield from sorted(rows_out, key=lambda one: (-one.pairs, one.src, one.dst, one.ip))


def _targets(by_slot: Mapping[Slot, set[Place]], snapshot: Snapshot) -> tuple[int, list[str]]:
    """Return the nodes that are reached whole, and the texts of everything else."""
    nodes, texts = 0, dict[str, list[str]]()
    for slot, places in by_slot.items():
        node_id = snapshot.slots.at[slot]
        if node_id is None:
            continue
        node = snapshot.nodes[node_id]
        own = {place for one in (node.ipv4, node.ipv6) for place in places_of(str(one))}
        whole = own <= places
        nodes |= int(whole) << slot
        for place in sorted(places - own if whole else places):
            behind = "" if place in own else node.name
            texts.setdefault(spelt(place), []).append(behind)
    return nodes, [
        f"{text} via {', '.join(sorted(names))}" if any(names) else text
        for text, names in sorted(texts.items())
    ]


def _edges(
    rows: tuple[Reach, ...], found: Difference, wording: Wording, *, after: bool
) -> tuple[str, ...]:
    """Return the pairs of names whose nodes have nothing else in common on the other side."""
    sets = wording.sets
    edges = set[str]()
    for row in rows:
        for src in row.src:
            for dst in row.dst:
                if src not in sets or dst not in sets:
                    continue
                other = found.left if after else found.reached
                if not any(
                    found.who.nodes(other.get(Slot(slot), 0)) & sets[src]
                    for slot in each_bit(sets[dst])
                ):
                    edges.add(f"{src} -> {dst}")
    return tuple(sorted(edges))


def _blast(found: Difference, snapshot: Snapshot, nodes: int, ends: Connections) -> Blast:
    touched: dict[Slot, int] = {}
    for row in (*found.gained, *found.lost):
        touched[row.slot] = touched.get(row.slot, 0) | row.sources
    total = len(snapshot.nodes)
    pairs = sum(
        (found.who.nodes(bits) & ~(1 << slot)).bit_count() for slot, bits in touched.items()
    )
    cut_off = _names(snapshot, ends.sending & ~ends.still_sending)
    return Blast(pairs, total * (total - 1), nodes, ends.gained, ends.lost, cut_off)


# ---------------------------------------------------------------------------- nodes


def _effects(before: Snapshot, after: Snapshot, filters: int) -> Iterator[NodeEffect]:
    routed = _rerouted(before, after)
    for node_id, slot in sorted(after.slots.of.items(), key=lambda one: after.nodes[one[0]].name):
        was, now = before.access.visible(slot), after.access.visible(slot)
        effect = NodeEffect(
            name=after.nodes[node_id].name,
            filter=bool(filters >> slot & 1),
            peers_gained=_names(after, now & ~was),
            peers_lost=_names(after, was & ~now),
            routes=bool(routed >> slot & 1),
            ssh=before.access.ssh_rules(slot) != after.access.ssh_rules(slot),
            capabilities=before.access.attributes(slot) != after.access.attributes(slot),
        )
        if effect != NodeEffect(effect.name):
            yield effect


def _names(snapshot: Snapshot, slots: int) -> tuple[str, ...]:
    return tuple(sorted(snapshot.nodes[node].name for node in snapshot.slots.nodes(slots)))


def _rerouted(before: Snapshot, after: Snapshot) -> int:
    """Return the slots that use other routes than before, or whose own routes others use anew."""
    bits = 0
    for node in after.nodes.values():
        for prefix in node.routes:
            was = before.access.users_of(node.id, prefix)
            moved = was ^ after.access.users_of(node.id, prefix)
            if moved and (is_exit(prefix) or after.primaries.get(prefix) == node.id):
                bits |= moved | 1 << after.slot(node.id)
    return bits


def _beside_packets(before: Snapshot, after: Snapshot) -> tuple[bool, bool]:
    """Say whether anybody gains, and whether anybody loses, a capability or a login."""
    grown = shrunk = False
    for slot in after.slots.of.values():
        if _same(before, after, slot):
            continue
        differing = grants(before, after, slot) != grants(after, before, slot)
        was, now = (_held(one, slot, differing) for one in (before, after))
        grown = grown or bool(now - was)
        shrunk = shrunk or bool(was - now)
    return grown, shrunk


def _same(before: Snapshot, after: Snapshot, slot: Slot) -> bool:
    was, now = before.access, after.access
    return (
        was.chunks(slot) is now.chunks(slot)
        and was.ssh_rules(slot) == now.ssh_rules(slot)
        and was.attributes(slot) == now.attributes(slot)
    )


def _held(snapshot: Snapshot, slot: Slot, granted: bool) -> set[Any]:  # noqa: FBT001 - a part of it
    access = snapshot.access
    held: set[Any] = set()
    if granted:
        for rule in access.chunks(slot).values():
            if rule.grant is not None:
                for capability in rule.grant.capabilities:
                    held.update((text, capability) for text in rule.sources.texts)
    for number, ssh in enumerate(access.ssh_rules(slot)):
        checked = ssh.check_period is None
        held.update((one, login, checked, number) for one in ssh.principals for login in ssh.logins)
    held.update(access.attributes(slot).items())
    return held


# ---------------------------------------------------------------------------- names and tests


def _identity(base: Side, head: Side) -> Identity:
    was, now = _policy(base).document, _policy(head).document
    approvals = [
        {str(one.prefix): one.approvers for one in document.route_approvals}
        | {"exitNode": document.exit_approvers}
        for document in (was, now)
    ]
    return Identity(
        roles=_changes(*(_people(side.declaration) for side in (base, head))),
        groups=_changes(was.groups, now.groups),
        tag_owners=_changes(was.tag_owners, now.tag_owners),
        approvers=_changes(*approvals),
        settings=_changes(*(_settings(side.declaration) for side in (base, head))),
    )


def _people(declaration: Declaration) -> dict[str, str]:
    return {
        one.login: f"{one.role}{' (suspended)' if one.suspended else ''}"
        for one in declaration.users or ()
    }


def _unresolved(policy: CompiledPolicy, snapshot: Snapshot) -> tuple[str, ...]:
    """Return logins and tags that rules name and that no device and nobody has."""
    known: set[str] = {tag for node in snapshot.nodes.values() for tag in node.tags}
    for user in snapshot.users.values():
        login = user.login.casefold()
        known |= {login, login if "@" in login else f"{login}@"}
    named = {
        str(one)
        for rule in policy.document.rules
        for one in (*rule.sources, *(target.selector for target in rule.targets), *rule.via)
        if isinstance(one, User | Tag)
    }
    return tuple(sorted(named - known))


def _settings(declaration: Declaration) -> dict[str, Any]:
    parts = (declaration.settings, declaration.dns, declaration.relays)
    return {
        f"{type(part).__name__.lower()}.{one.name}": getattr(part, one.name)
        for part in parts
        for one in fields(part)
    }


def _changes(was: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(
        f"{name}: {_shown(was.get(name))} -> {_shown(now.get(name))}"
        for name in sorted(was.keys() | now.keys())
        if was.get(name) != now.get(name)
    )


def _shown(value: Any) -> str:
    match value:
        case None:
            return "none"
        case tuple() | frozenset():
            return ", ".join(sorted(map(str, value))) or "nobody"
        case _:
            return str(value)


def _tests(base: Side, head: Side) -> Tests:
    document = _policy(head).document
    run = sum(len(one.accept) + len(one.deny) for one in document.tests)
    run += sum(len(one.accept) + len(one.check) + len(one.deny) for one in document.ssh_tests)
    failed = {side.tree: _failing(side) for side in (base, head)}
    before = {message for message, _ in failed[base.tree]}
    return Tests(
        run=run,
        untested=_untested(base, head),
        newly_failing=tuple(
            f"{place}: {message}" for message, place in failed[head.tree] if message not in before
        ),
        failing=tuple(f"{place}: {message}" for message, place in failed[head.tree]),
    )


def _untested(base: Side, head: Side) -> tuple[str, ...]:
    """Return where rules stand that the base does not have and that no test covers."""
    old = {rule.name for rule in (*_policy(base).rules, *_policy(base).own_rules)}
    new = {
        rule.origin
        for rule in (*_policy(head).rules, *_policy(head).own_rules)
        if rule.name not in old
    }
    uncovered = (one.origin for one in cover(_policy(head), head.snapshot).uncovered)
    return tuple(
        f"{one.file}:{one.start_line}:{one.start_column}" for one in uncovered if one in new
    )


def _failing(side: Side) -> list[tuple[str, str]]:
    return [
        (one.message, f"{one.span.file}:{one.span.start_line}")
        for one in selftest(side.declaration, side.snapshot)
        if one.severity is Severity.ERROR
    ]
