"""Asks a compiled packet filter about single packets, as the client that has the filter would.

The filter decides; the rule is found by the name of the chunk that lets the packet in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from mergescale.domain.access import FilterRule, Sources
from mergescale.domain.prefixes import Address
from mergescale.policy.compiled import CompiledPolicy, CompiledRule
from mergescale.policy.ports import DEFAULT_PROTOCOLS, WITH_PORTS
from mergescale.policy.selectors import Range, parse_range


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet.

    Attributes:
        port: of the destination; does not count for protocols without ports.
    """

    source: Address
    target: Address
    protocol: int
    port: int


class SourceTexts:
    """A source list, made ready to be asked about many addresses."""

    __slots__ = ("_exact", "_ranges", "_whole")

    def __init__(self, sources: Sources) -> None:
        self._exact = frozenset(sources.texts)
        self._whole = "*" in self._exact
        self._ranges = tuple(
            one for text in sources.texts if ("/" in text or "-" in text) and (one := _range(text))
        )

    def __contains__(self, address: Address) -> bool:
        return (
            self._whole
            or str(address) in self._exact
            or any(_within(one, address) for one in self._ranges)
        )


class Filter:
    """The packet filter of one node.

    Attributes:
        chunks: as `domain.access.Access.chunks` gives them.
    """

    def __init__(self, policy: CompiledPolicy, chunks: Mapping[str, FilterRule]) -> None:
        self.chunks = chunks
        self._rules = tuple(
            (rule, chunks[rule.name], SourceTexts(chunks[rule.name].sources))
            for rule in (*policy.rules, *policy.own_rules)
            if rule.name in chunks
        )

    def deciding(self, packet: Packet) -> CompiledRule | None:
        """Return the first rule that lets the packet in, None when none does."""
        for rule, chunk, sources in self._rules:
            if _carries(chunk, packet) and packet.source in sources:
                return rule
        return None

    def rules_from(self, addresses: tuple[Address, ...]) -> Iterator[CompiledRule]:
        """Yield the rules, those of applications too, that list one of the addresses as source."""
        for rule, _, sources in self._rules:
            if any(address in sources for address in addresses):
                yield rule


def holds(text: str, address: Address) -> bool:
    """Say whether a destination as filters write it has the address."""
    if text == "*":
        return True
    found = _range(text)
    return found is not None and _within(found, address)


def spoken(rule: CompiledRule, protocol: int) -> bool:
    """Say whether a rule is about the protocol."""
    return protocol in (rule.protocols or DEFAULT_PROTOCOLS)


def _carries(chunk: FilterRule, packet: Packet) -> bool:
    """Say whether a chunk is about packets like this one, whoever sends them."""
    if packet.protocol not in (chunk.protocols or DEFAULT_PROTOCOLS):
        return False
    return any(
        (packet.protocol not in WITH_PORTS or one.first <= packet.port <= one.last)
        and holds(one.ip, packet.target)
        for one in chunk.destinations
    )


def _range(text: str) -> Range | None:
    found = parse_range(text)
    return found if isinstance(found, Range) else None


def _within(one: Range, address: IPv4Address | IPv6Address) -> bool:
    return one.meets(address.version, int(address), int(address))
