"""Which rules of a policy concern a person, or a port of an address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import Role
from mergescale.policy.compiled import CompiledPolicy, CompiledRule, Steered, TargetKind, Wide
from mergescale.policy.hujson import Value
from mergescale.policy.places import INTERNET
from mergescale.policy.ports import WITH_PORTS
from mergescale.policy.principals import TAGGED, Principal, of_login, of_node
from mergescale.policy.selectors import Range, parse_range

#: A port of an address.
Place = tuple[IPv4Address | IPv6Address, int]

_PUBLIC: Final = [
    found
    for texts in INTERNET.values()
    for text in texts
    if isinstance(found := parse_range(text), Range)
]


@dataclass(frozen=True, slots=True)
class Match:
    """A rule that concerns what was asked about.

    Attributes:
        users, ports: its sources and destinations, as written.
        line: where it stands, 1-based.
        via, postures: as written.
    """

    users: tuple[str, ...]
    ports: tuple[str, ...]
    line: int
    via: tuple[str, ...] = ()
    postures: tuple[str, ...] = ()


def of_user(policy: CompiledPolicy, written: Value, login: str) -> tuple[Match, ...]:
    """Return the rules that have a person among their sources, in order.

    Args:
        policy: compiled from `written`.
        written: for what the rules say.
        login: need not be known: ``*`` has everybody.
    """
    role = policy.document.roles.get(login.casefold(), Role.MEMBER)
    lookup = policy.source_lookup
    inside = lookup.named(of_login(login, role, policy.groups_of)) | lookup.always
    return _matches(policy, written, lambda rule: bool(inside >> rule.source & 1))


def of_port(
    policy: CompiledPolicy, written: Value, place: Place, snapshot: Snapshot
) -> tuple[Match, ...]:
    """Return the rules that lead to a port, in order.

    Args:
        policy: compiled from `written`.
        written: for what the rules say.
        place: where the port is.
        snapshot: whose device has the address, if one has.
    """
    address, port = place
    names = _names(policy, snapshot, address)

    def leads(rule: CompiledRule) -> bool:
        return _has_ports(rule) and any(
            port in ports and _is(policy.targets[number], address, names)
            for number, ports in rule.targets
        )

    def leads_home(rule: CompiledRule) -> bool:
        own = bool(names) and TAGGED not in names
        return own and _has_ports(rule) and any(port in ports for _, ports in rule.targets)

    own_rules = set(policy.own_rules)
    return _matches(
        policy, written, lambda rule: leads_home(rule) if rule in own_rules else leads(rule)
    )


def _has_ports(rule: CompiledRule) -> bool:
    return not rule.protocols or not WITH_PORTS.isdisjoint(rule.protocols)


def _names(
    policy: CompiledPolicy, snapshot: Snapshot, address: IPv4Address | IPv6Address
) -> frozenset[Principal]:
    node_id = snapshot.addresses.get(address)
    if node_id is None:
        return frozenset()
    node = snapshot.nodes[node_id]
    return of_node(node.tags, snapshot.owner(node), policy.groups_of)


def _is(kind: TargetKind, address: IPv4Address | IPv6Address, names: frozenset[Principal]) -> bool:
    number = int(address)
    match kind:
        case Wide.ANYTHING:
            return True
        case Wide.INTERNET:
            return any(one.meets(address.version, number, number) for one in _PUBLIC)
        case Range():
            return kind.meets(address.version, number, number)
        case Steered(to=to):
            return _is(to, address, names)
        case str():
            return kind in names
        case _:
            return False


def _matches(
    policy: CompiledPolicy, written: Value, concerned: Callable[[CompiledRule], bool]
) -> tuple[Match, ...]:
    entries = {entry.start: entry for entry in _entries(written)}
    rules = [one for one in (*policy.rules, *policy.own_rules) if not one.capabilities]
    places = {rule.origin.offset_start for rule in rules if concerned(rule)}
    return tuple(_match(entries[place]) for place in sorted(places) if place in entries)


def _entries(written: Value) -> Iterator[Value]:
    for member in written.members:
        if member.key.casefold() in {"acls", "grants"}:
            yield from member.value.items


def _match(entry: Value) -> Match:
    said = {one.key.casefold(): one.value for one in entry.members}
    flows = _texts(said.get("ip"))
    ports = _texts(said.get("dst") or said.get("ports"))
    if flows:
        ports = tuple(f"{one}:{flow}" for one in ports for flow in flows)
    return Match(
        users=_texts(said.get("src") or said.get("users")),
        ports=ports,
        line=entry.span.start_line,
        via=_texts(said.get("via")),
        postures=_texts(said.get("srcposture")),
    )


def _texts(value: Value | None) -> tuple[str, ...]:
    items = () if value is None else value.items
    return tuple(one.scalar for one in items if isinstance(one.scalar, str))
