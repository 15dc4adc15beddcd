"""Policies for tests: from text to access in one call, and what a filter admits."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network

from mergescale.domain.access import FilterRule
from mergescale.domain.declaration import Declaration
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import Slot
from mergescale.policy import hujson
from mergescale.policy.compiled import CompiledPolicy
from mergescale.policy.diagnostics import Diagnostic, has_errors, render
from mergescale.policy.load import load
from support.worlds import named, world

FILE = "policy.hujson"
#: The tailnet's own domain.
DOMAIN = "example.com"
DEFAULT_PROTOCOLS = (1, 6, 17, 58)
WITH_PORTS = (6, 17, 132)


def diagnose(text: str) -> tuple[CompiledPolicy | None, tuple[Diagnostic, ...]]:
    """Load a policy text; everything that is to be said about it."""
    value, found = hujson.parse(text, FILE)
    if value is None:
        return None, found
    policy, said = load(value, domain=DOMAIN)
    return (None if has_errors(found) else policy), (*found, *said)


def policy(text: str) -> CompiledPolicy:
    """Load a policy that must be good."""
    compiled, found = diagnose(text)
    assert compiled is not None, "\n".join(render(one, text) for one in found)
    return compiled


def governed(nodes: str, text: str) -> Snapshot:
    """Return the `world` of these nodes under this policy."""
    return world(nodes, declaration=Declaration(policy(text)))


def underlined(text: str, diagnostic: Diagnostic) -> str:
    """Return what a diagnostic points at."""
    return text[diagnostic.span.offset_start : diagnostic.span.offset_end]


def sees(snapshot: Snapshot, name: str) -> set[str]:
    """Return the names of the nodes that this one sees."""
    slots = snapshot.access.visible(slot_of(snapshot, name))
    return {snapshot.nodes[node].name for node in snapshot.slots.nodes(slots)}


def slot_of(snapshot: Snapshot, name: str) -> Slot:
    """Return the slot of the node with this label."""
    return snapshot.slot(named(snapshot, name).id)


def chunks_of(snapshot: Snapshot, name: str) -> Mapping[str, FilterRule]:
    """Return the named chunks of the node with this label."""
    return snapshot.access.chunks(slot_of(snapshot, name))


def filter_of(snapshot: Snapshot, name: str) -> list[tuple[list[str], list[str], list[int]]]:
    """Return (sources, ``ip:ports`` destinations, protocols) of each of a node's chunks, sorted."""
    return sorted(
        (
            list(rule.sources.texts),
            [f"{one.ip}:{_ports(one.first, one.last)}" for one in rule.destinations],
            list(rule.protocols),
        )
        for rule in chunks_of(snapshot, name).values()
    )


def grants_of(snapshot: Snapshot, name: str) -> list[tuple[list[str], list[str], dict[str, str]]]:
    """Return (sources, prefixes, capabilities as JSON) of each of a node's grants, sorted."""
    found = [
        (
            list(rule.sources.texts),
            list(rule.grant.addresses),
            {one: b",".join(values).decode() for one, values in rule.grant.capabilities},
        )
        for rule in chunks_of(snapshot, name).values()
        if rule.grant is not None
    ]
    return sorted(found, key=str)


def admits(
    chunks: Mapping[str, FilterRule], source: str, target: str, protocol: int, port: int
) -> bool:
    """Say whether a client with this filter lets a packet in, as tailcfg defines filters."""
    for rule in chunks.values():
        if protocol not in (rule.protocols or DEFAULT_PROTOCOLS):
            continue
        if not any(holds(text, source) for text in rule.sources.texts):
            continue
        for one in rule.destinations:
            at_port = protocol not in WITH_PORTS or one.first <= port <= one.last
            if at_port and holds(one.ip, target):
                return True
    return False


def holds(text: str, address: str) -> bool:
    """Say whether an address lies in ``*``, an address, a CIDR or a range, as clients read it."""
    one = ip_address(address)
    if text == "*":
        return True
    if "-" in text:
        first, _, last = text.partition("-")
        low, high = ip_address(first), ip_address(last)
        return low.version == one.version and int(low) <= int(one) <= int(high)
    return one in ip_network(text, strict=True)


def _ports(first: int, last: int) -> str:
    if (first, last) == (0, 65535):
        return "*"
    return str(first) if first == last else f"{first}-{last}"
