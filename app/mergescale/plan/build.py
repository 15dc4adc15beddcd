"""Two declarations over one tailnet -> `Plan`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from mergescale.domain.prefixes import is_exit
from mergescale.domain.slots import each_bit
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import Slot
from mergescale.plan.absent import absent
from mergescale.plan.causes import Causes
from mergescale.plan.delivery import estimate
from mergescale.plan.difference import Difference, Row, difference
from mergescale.plan.flows import Flow, Place
from mergescale.plan.gates import Connections, Limits, judge
from mergescale.plan.identity import standing
from mergescale.plan.model import (
    VERSION,
    Blast,
    Grant,
    NodeEffect,
    Plan,
    Reach,
    Tests,
    Verdict,
)
from mergescale.plan.rights import Right, Rights, rights
from mergescale.plan.side import Side, hash_of
from mergescale.plan.wording import Wording, ports
from mergescale.policy.compiled import CompiledPolicy
from mergescale.policy.coverage import cover
from mergescale.policy.diagnostics import Severity
from mergescale.policy.document import PolicyDocument
from mergescale.policy.repository import selftest
from mergescale.policy.selectors import Group, Service, Tag, User

#: Changes when the same inputs would give another plan.
COMPILER: Final = "2"


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
    beside = rights(base.snapshot, head.snapshot, found.who)
    people = standing(base, head)
    more, less = absent(base, head)
    wording = Wording(head.snapshot, base.snapshot)
    gained = tuple(_reach(found.gained, found, wording, _causes(head, base, found)))
    lost = tuple(_reach(found.lost, found, wording, _causes(base, head, found)))
    given, taken = (tuple(_grants(rows, found, wording)) for rows in (beside.gained, beside.lost))
    effects = tuple(_effects(base.snapshot, head.snapshot, found.filters, beside))
    told = len(head.snapshot.nodes) if people.told else len(effects)
    return Plan(
        version=VERSION,
        hash=hash_of(base.tree, head.tree, inventory, COMPILER),
        verdict=_verdict(
            widens=bool(gained or given or more) or people.grows,
            narrows=bool(lost or taken or less) or people.shrinks,
            moves=bool(effects) or people.moves,
        ),
        gained=gained,
        lost=lost,
        edges_gained=_edges(gained, found, wording, after=False),
        edges_lost=_edges(lost, found, wording, after=True),
        grants_gained=given,
        grants_lost=taken,
        absent_gained=more,
        absent_lost=less,
        nodes=effects,
        identity=people.shown,
        tests=_tests(base, head),
        blast=_blast(found, head.snapshot, told, judged.connections),
        unresolved=_unresolved(head.policy, head.snapshot),
        gates=() if limits is None else judged.findings,
        delivery=estimate(base.snapshot, head.snapshot, effects, everybody=people.told),
    )


def _causes(more: Side, less: Side, found: Difference) -> Causes:
    return Causes(more.policy, more.snapshot, less.snapshot, found.who)


def _verdict(*, widens: bool, narrows: bool, moves: bool) -> Verdict:
    match widens, narrows:
        case False, False:
            return Verdict.MIXED if moves else Verdict.NO_EFFECT
        case True, False:
            return Verdict.WIDENING
        case False, True:
            return Verdict.NARROWING
        case _:
            return Verdict.MIXED


# ---------------------------------------------------------------------------- reachability


def _reach(
    rows: Iterable[Row], found: Difference, wording: Wording, causes: Causes
) -> Iterator[Reach]:
    """Yield one row for each set of sources and ports, with everything that they reach."""
    merged: dict[tuple[int, tuple[Flow, ...]], list[Row]] = {}
    for row in rows:
        merged.setdefault((row.sources, row.flows), []).append(row)
    rows_out = []
    for (sources, flows), alike in merged.items():
        by_slot: dict[Slot, set[Place]] = {}
        for row in alike:
            by_slot.setdefault(row.slot, set()).add(row.place)
        pairs = sum((found.who.nodes(sources) & ~(1 << slot)).bit_count() for slot in by_slot)
        src, dst = wording.sources(sources, found.who), wording.targets(by_slot)
        rows_out.append(Reach(src, dst, ports(flows), pairs, causes.of(alike)))
    yield from sorted(rows_out, key=lambda one: (-one.pairs, one.src, one.dst, one.ip))


def _grants(rows: Iterable[Right], found: Difference, wording: Wording) -> Iterator[Grant]:
    """Yield one row for each set of sources and what they may do, with all nodes where."""
    merged: dict[tuple[int, str], int] = {}
    for row in rows:
        key = row.sources, row.what
        merged[key] = merged.get(key, 0) | 1 << row.slot
    rows_out = [
        Grant(wording.sources(sources, found.who), wording.words(slots), what)
        for (sources, what), slots in merged.items()
    ]
    yield from sorted(rows_out, key=lambda one: (one.what, one.src, one.dst))


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


def _effects(
    before: Snapshot, after: Snapshot, filters: int, beside: Rights
) -> Iterator[NodeEffect]:
    routed = _rerouted(before, after)
    for node_id, slot in sorted(after.slots.of.items(), key=lambda one: after.nodes[one[0]].name):
        was, now = before.access.visible(slot), after.access.visible(slot)
        effect = NodeEffect(
            name=after.nodes[node_id].name,
            filter=bool(filters >> slot & 1),
            peers_gained=_names(after, now & ~was),
            peers_lost=_names(after, was & ~now),
            routes=bool(routed >> slot & 1),
            ssh=bool(beside.ssh >> slot & 1),
            capabilities=bool(beside.attributes >> slot & 1),
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


# ---------------------------------------------------------------------------- names and tests


def _unresolved(policy: CompiledPolicy, snapshot: Snapshot) -> tuple[str, ...]:
    """Return what entries name and nobody and no device is; a group if that is so of all in it."""
    document = policy.document
    known: set[str] = {tag for node in snapshot.nodes.values() for tag in node.tags}
    for user in snapshot.users.values():
        login = user.login.casefold()
        known |= {login, login if "@" in login else f"{login}@"}
    known |= {name for name, members in document.groups.items() if not known.isdisjoint(members)}
    selectors = [
        *(one for rule in document.rules for one in (*rule.sources, *rule.holders, *rule.via)),
        *(target.selector for rule in document.rules for target in rule.targets),
        *(one for entry in document.ssh for one in (*entry.sources, *entry.targets)),
    ]
    named = {str(one) for one in selectors if isinstance(one, User | Tag | Group | Service)}
    return tuple(sorted(named - known))


def _tests(base: Side, head: Side) -> Tests:
    was, now = (_expected(side.document) for side in (base, head))
    before = {message for message, _ in _failing(base)}
    failing = _failing(head)
    return Tests(
        run=len(now),
        untested=_untested(base, head),
        newly_failing=tuple(
            f"{place}: {message}" for message, place in failing if message not in before
        ),
        failing=tuple(f"{place}: {message}" for message, place in failing),
        gone=tuple(sorted({*was} - {*now})),
    )


def _expected(document: PolicyDocument) -> list[str]:
    """Return all that tests expect, in words."""
    return [
        *(
            f"{test.source} {word} {probe.text}"
            for test in document.tests
            for word, probes in (("accept", test.accept), ("deny", test.deny))
            for probe in probes
        ),
        *(
            f"{test.source} {word} {one.user} at {', '.join(to.text for to in test.targets)}"
            for test in document.ssh_tests
            for word, users in (("accept", test.accept), ("check", test.check), ("deny", test.deny))
            for one in users
        ),
    ]


def _untested(base: Side, head: Side) -> tuple[str, ...]:
    """Return where rules stand that the base does not have and that no test covers."""
    old = {rule.name for rule in (*base.policy.rules, *base.policy.own_rules)}
    new = {
        rule.origin for rule in (*head.policy.rules, *head.policy.own_rules) if rule.name not in old
    }
    uncovered = (one.origin for one in cover(head.policy, head.snapshot).uncovered)
    places = sorted((one.file, one.start_line, one.start_column) for one in uncovered if one in new)
    return tuple(f"{file}:{line}:{column}" for file, line, column in places)


def _failing(side: Side) -> list[tuple[str, str]]:
    return [
        (one.message, f"{one.span.file}:{one.span.start_line}")
        for one in selftest(side.declaration, side.snapshot)
        if one.severity is Severity.ERROR
    ]
