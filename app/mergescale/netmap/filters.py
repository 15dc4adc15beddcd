"""The packet filter as named chunks (MapResponse.PacketFilters, capability version 81).

A chunk is one rule. Chunks are compared by name and content, so a policy change sends those that
differ. The source list of a rule is the same for all its destinations: it is encoded once, and
compressed once if it is long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import msgspec

from mergescale.domain.access import CapGrant, FilterRule, Sources
from mergescale.netmap.parts import SHARE_BYTES, Part, Shared
from mergescale.netmap.recent import Recent
from mergescale.wire.tailcfg.encode import encode, encode_text, member
from mergescale.wire.tailcfg.filter import CapGrant as WireGrant
from mergescale.wire.tailcfg.filter import FilterRule as WireRule
from mergescale.wire.tailcfg.filter import NetPortRange, PortRange
from mergescale.wire.tailcfg.map_response import ALL_CHUNKS

#: LIMIT: source lists kept encoded; a policy has about one for each rule.
_SOURCES: Final = 4096

Chunks = Mapping[str, FilterRule]

_SRC_IPS: Final = member(WireRule, "src_ips")
_DST_PORTS: Final = member(WireRule, "dst_ports")
_CAP_GRANT: Final = member(WireRule, "cap_grant")
_IP_PROTO: Final = member(WireRule, "ip_proto")
_DELETED: Final = b"null"


class Filters:
    """Writes chunks, remembering the source lists it encoded."""

    def __init__(self) -> None:
        self._sources: Recent[int, tuple[Sources, Part]] = Recent(_SOURCES)

    def fresh(self, chunks: Chunks) -> list[Part]:
        """Return PacketFilters that sets exactly these chunks, whatever the client had.

        Without any chunk it still allows nothing, which an absent member would leave open.
        """
        parts: list[Part] = [b"{", encode_text(ALL_CHUNKS), b":", _DELETED]
        for name in sorted(chunks):
            parts += self._chunk(b",", name, chunks[name])
        return [*parts, b"}"]

    def difference(self, old: Chunks, new: Chunks) -> list[Part]:
        """Return PacketFilters that turns `old` into `new`; empty when they are the same."""
        parts: list[Part] = []
        for name in sorted(_differing(old, new)):
            parts += self._chunk(b"," if parts else b"{", name, new.get(name))
        return [*parts, b"}"] if parts else []

    def _chunk(self, before: bytes, name: str, rule: FilterRule | None) -> list[Part]:
        head = before + encode_text(name) + b":"
        if rule is None:
            return [head + _DELETED]
        if rule.grant is not None:
            tail = b"," + _CAP_GRANT + b"[" + encode(_grant(rule.grant)) + b"]"
        else:
            tail = b"," + _DST_PORTS + _destinations(rule)
        if rule.protocols:
            tail += b"," + _IP_PROTO + encode(rule.protocols)
        return [head + b"[{" + _SRC_IPS, self._source_list(rule.sources), tail + b"}]"]

    def _source_list(self, sources: Sources) -> Part:
        # Keyed by identity, and kept beside the value so that no other object gets the same id.
        _, part = self._sources.get(id(sources), _encoded(sources))
        return part


def _encoded(sources: Sources) -> Callable[[], tuple[Sources, Part]]:
    def make() -> tuple[Sources, Part]:
        text = encode(sources.texts)
        return sources, text if len(text) < SHARE_BYTES else Shared((text,))

    return make


def _grant(grant: CapGrant) -> WireGrant:
    return WireGrant(
        dsts=grant.addresses,
        cap_map={
            name: tuple(msgspec.Raw(one) for one in values) for name, values in grant.capabilities
        },
    )


def _destinations(rule: FilterRule) -> bytes:
    return encode(
        [
            NetPortRange(ip=to.ip, ports=PortRange(first=to.first, last=to.last))
            for to in rule.destinations
        ]
    )


def _differing(old: Chunks, new: Chunks) -> Iterator[str]:
    if old is new:
        return
    for name, rule in new.items():
        was = old.get(name)
        if was is not rule and (was is None or not _same_rule(was, rule)):
            yield name
    for name in old:
        if name not in new:
            yield name


def _same_rule(old: FilterRule, new: FilterRule) -> bool:
    return (
        (old.sources is new.sources or old.sources.texts == new.sources.texts)
        and old.destinations == new.destinations
        and old.protocols == new.protocols
        and old.grant == new.grant
    )
