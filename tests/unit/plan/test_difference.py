"""A small policy must not make the plan of it work for hours."""

from __future__ import annotations

import json

from mergescale.domain.declaration import Declaration
from mergescale.domain.snapshot import Snapshot
from mergescale.plan.build import make_plan
from mergescale.plan.difference import difference
from mergescale.plan.flows import Flow, spelt
from mergescale.plan.model import Verdict
from mergescale.plan.side import Side
from support.policies import policy
from support.worlds import routed, world

NODES = "ana@example.com: n1; tag:a: n2"
MANY = 12_000
ANYBODY = {"action": "accept", "src": ["ana@example.com"]}


def tailnet(*destinations: str) -> Snapshot:
    rule = {**ANYBODY, "dst": list(destinations)}
    text = json.dumps({"tagOwners": {"tag:a": []}, "acls": [rule]})
    return routed(world(NODES, declaration=Declaration(policy(text))), "n2", "10.0.0.0/8")


def test_many_ports_are_told_without_looking_at_all_of_them_for_each() -> None:
    """Sixty kilobytes of ports are a matter of a second; what compares pairs is timed out here."""
    wanted = range(1, 2 * MANY, 2)
    ports = ",".join(map(str, wanted))
    (row,) = difference(tailnet("tag:a:22"), tailnet(f"10.0.0.0/9:{ports}")).gained
    tcp = [flow for flow in row.flows if flow.protocol == 6]
    assert tcp == [Flow(6, port, port) for port in wanted]


def test_every_destination_behind_a_router_is_told() -> None:
    """Neighbours that touch are told apart, and what no rule names between them is not told."""
    found = difference(
        tailnet("tag:a:22", "10.2.0.0/24:80"),
        tailnet("tag:a:22", "10.2.0.0/24:80", "10.2.0.0/25:443", "10.2.0.255:80-90"),
    )
    places = {spelt(row.place): row.flows for row in found.gained if row.flows[0].protocol == 6}
    assert {place: flows[0] for place, flows in places.items()} == {
        "10.2.0.0/25": Flow(6, 443, 443),
        "10.2.0.255": Flow(6, 81, 90),
    }
    assert not found.lost


def test_many_destinations_that_nobody_has_are_told_without_comparing_pairs_of_them() -> None:
    """Also who has no device yet is given all of them; what compares pairs is timed out here."""
    hosts = [f"10.{one >> 8}.{one & 255}.9:{one + 1}" for one in range(14_000)]
    before, after = (
        side(text) for text in ('{"acls": []}', json.dumps({"acls": [{**ANYBODY, "dst": hosts}]}))
    )
    assert make_plan(before, after, "").verdict == Verdict.WIDENING


def test_in_a_huge_change_not_every_row_says_which_rules_it_is_of() -> None:
    """Thousands of rules are not all held against thousands of rows; a few are."""
    nodes = "ana@example.com: n1; tag:a: n2"
    before = side('{"acls": []}', nodes)
    for count, whole in ((3, True), (1_500, False)):
        rules = [
            {**ANYBODY, "src": [f"10.{one >> 8}.{one & 255}.9"], "dst": [f"100.64.0.2:{one + 1}"]}
            for one in range(count)
        ]
        rows = make_plan(before, side(json.dumps({"acls": rules}), nodes), "").gained
        assert len(rows) >= count
        assert all(row.rules for row in rows) is whole


def side(text: str, nodes: str = "") -> Side:
    declaration = Declaration(policy(text))
    return Side(text, declaration, world(nodes, declaration=declaration))
