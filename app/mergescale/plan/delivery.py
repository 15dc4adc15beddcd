"""What it costs to tell the clients: reckoned from the chunks that differ, not tried."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from mergescale.domain.access import FilterRule
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import Slot
from mergescale.plan.model import Delivery, NodeEffect

#: LIMIT: bytes of JSON, as measured of maps: a peer, the id of one that is gone, and what stands
#: around a rule, a destination and a source.
_PEER: Final = 600
_GONE: Final = 12
_RULE: Final = 60
_DESTINATION: Final = 45
_SOURCE: Final = 3
#: LIMIT: as measured with 1,000 and 5,000 clients on two cores (bench/README.md): what is done
#: once, and then for each client.
_ONCE_S: Final = 0.15
_EACH_S: Final = 0.00012


def estimate(
    before: Snapshot, after: Snapshot, effects: Iterable[NodeEffect], *, everybody: bool = False
) -> Delivery:
    """Reckon what the clients that are connected now are sent.

    Besides `effects`, all nodes are told of the tailnet's settings if `everybody` is.
    """
    sizes: dict[int, int] = {}
    by_name = {one.name: one for one in effects}
    names = [one.name for one in after.nodes.values()] if everybody else [*by_name]
    settings = len(msgspec.json.encode((after.dns, after.relays))) if everybody else 0
    online = size = 0
    for name in names:
        node_id = after.names[name]
        if not after.online(node_id):
            continue
        online += 1
        size += settings
        if name in by_name:
            size += _size(before, after, by_name[name], after.slot(node_id), sizes)
    seconds = _ONCE_S + _EACH_S * online if online else 0.0
    return Delivery(len(names), online, online, size, round(seconds, 2))


def _size(
    before: Snapshot, after: Snapshot, effect: NodeEffect, slot: Slot, sizes: dict[int, int]
) -> int:
    size = _PEER * len(effect.peers_gained) + _GONE * len(effect.peers_lost)
    if effect.filter:
        size += _differing(before.access.chunks(slot), after.access.chunks(slot), sizes)
    if effect.ssh:
        rules = after.access.ssh_rules(slot)
        size += sum(_RULE + sum(map(len, one.principals)) for one in rules)
    if effect.capabilities:
        held = after.access.attributes(slot)
        size += sum(_GONE + len(name) + sum(map(len, values)) for name, values in held.items())
    return size


def _differing(
    was: Mapping[str, FilterRule], now: Mapping[str, FilterRule], sizes: dict[int, int]
) -> int:
    """Return the bytes of the chunks that a client is sent anew, or told are gone."""
    size = sum(len(name) + _GONE for name in was.keys() - now.keys())
    for name, rule in now.items():
        held = was.get(name)
        if held is not rule and held != rule:
            size += len(name) + _RULE + _sources(rule, sizes)
            size += sum(_DESTINATION + len(one.ip) for one in rule.destinations)
    return size


def _sources(rule: FilterRule, sizes: dict[int, int]) -> int:
    """Return the size of a source list; whole companies stand in one that many rules share."""
    found = sizes.get(id(rule.sources))
    if found is None:
        texts = rule.sources.texts
        found = sizes[id(rule.sources)] = sum(map(len, texts)) + _SOURCE * len(texts)
    return found
