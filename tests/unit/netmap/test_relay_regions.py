"""Several server processes, each with a relay of its own: what their clients are told."""

from __future__ import annotations

import json
from dataclasses import replace

from mergescale.domain.tailnet import RelayNode, RelayRegion, Relays
from mergescale.netmap.deployment import estate
from support.access import table
from support.worlds import world


def region(number: int, host: str) -> RelayRegion:
    """Return the region of one process."""
    node = RelayNode(f"{number}a", host, stun_port=3478, derp_port=443)
    return RelayRegion(number, f"relay-{number}", f"Relay {number}", (node,))


ONE, TWO = region(901, "one.example.com"), region(902, "two.example.com")


def test_declared_relays_of_all_processes_are_told_by_each() -> None:
    """Clients of either process know both regions, under the same numbers: they have one in common."""
    declared = replace(table(), relays=Relays((ONE, TWO)))
    snapshot = world("alice@example.com: laptop", declaration=declared)
    one, two = (
        estate(snapshot, replace(own, code="mergescale", name="Mergescale")).derp_map
        for own in (ONE, TWO)
    )
    assert one == two
    hosts = {
        number: [node["HostName"] for node in told["Nodes"]]
        for number, told in json.loads(one)["Regions"].items()
    }
    assert hosts == {"901": ["one.example.com"], "902": ["two.example.com"]}
