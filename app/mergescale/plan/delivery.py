"""What it costs to tell the clients: reckoned from the chunks that differ, not tried."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from mergescale.domain.access import FilterRule
from mergescale.domain.snapshot import Snapshot
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


def estimate(before: Snapshot, after: Snapshot, effects: Iterable[NodeEffect]) -> Delivery:
    """Reckon what the clients that are connected now are sent."""
    sizes: dict[int, int] = {}
    told = online = size = 0
    for effect in effects:
        told += 1
        node_id = after.names[effect.name]
        if not after.online(node_id):
            continue
        online += 1
        size += _PEER * len(effect.peers_gained) + _GONE * len(effect.peers_lost)
        if effect.filter:
            slot = after.slot(node_id)
            size += _differing(before.access.chunks(slot), after.access.chunks(slot), sizes)
    seconds = _ONCE_S + _EACH_S * online if online else 0.0
    return Delivery(told, online, online, size, round(seconds, 2))


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
