"""What operators and devices do to nodes that exist."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from mergescale.domain.node import Node
from mergescale.domain.record import Drop, Presence, Write
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.tailnet import DEFAULT_KEY_EXPIRY
from mergescale.kernel.errors import Conflict, Invalid
from mergescale.kernel.ids import NodeId
from mergescale.kernel.keys import DiscoKey
from mergescale.state import addresses, lookup, names
from mergescale.state.admission import declared_tags
from mergescale.state.hostinfo import hostname_of, observe
from mergescale.state.outcome import Decision, Outcome, outcome, replaced
from mergescale.state.routes import auto_approved
from mergescale.wire.tailcfg.hostinfo import Hostinfo

#: LIMIT: endpoints kept of one node. A machine with dozens of container bridges has some 60.
MAX_ENDPOINTS: Final = 128
_LAST_PORT: Final = 65_535


@dataclass(frozen=True, slots=True)
class MapUpdate:
    """What a lite update says (spec 4.1); None and zero mean "nothing about that".

    Attributes:
        endpoints: ``ip:port`` texts in any order; an empty list takes all of them away.
        disco_key: zero in the first requests of a client; then the last one holds.
    """

    capability_version: int
    hostinfo: Hostinfo | None = None
    endpoints: tuple[str, ...] | None = None
    disco_key: DiscoKey = DiscoKey.zero()


def update(node_id: NodeId, said: MapUpdate) -> Decision[Node]:
    """Take in what a client says of itself; writes nothing when that is nothing new."""

    def decide(snapshot: Snapshot, _: datetime) -> Outcome[Node]:
        node = lookup.node(snapshot, node_id)
        after = replace(
            node,
            capability_version=said.capability_version,
            disco_key=said.disco_key or node.disco_key,
            endpoints=(
                node.endpoints if said.endpoints is None else usable_endpoints(said.endpoints)
            ),
        )
        if said.hostinfo is not None:
            after = observe(snapshot, after, said.hostinfo)
        return replaced(snapshot, node, after)

    return decide


def rename(node_id: NodeId, name: str) -> Decision[Node]:
    """Give the node a name that stays whatever its host name becomes; empty undoes that.

    Raises (when carried out):
        Invalid: not a DNS label.
        Conflict: another node has the name.
    """

    def decide(snapshot: Snapshot, _: datetime) -> Outcome[Node]:
        node = lookup.node(snapshot, node_id)
        if not name:
            label = names.free(snapshot, hostname_of(node), node.id)
            return replaced(snapshot, node, replace(node, name=label, name_pinned=False))
        label = names.parse_label(name)
        if snapshot.names.get(label, node.id) != node.id:
            raise Conflict(f'another node is called "{label}"')
        return replaced(snapshot, node, replace(node, name=label, name_pinned=True))

    return decide


def set_tags(node_id: NodeId, tags: Iterable[str]) -> Decision[Node]:
    """Let the tags own the node: its user no longer does, and its key no longer expires.

    There is no way back but a new login of a user. A key that has expired already stays so:
    tagging lets nobody in.

    Raises (when carried out):
        Invalid: a tag is not declared, or a tagged node would be left without any.
    """
    wanted = tuple(tags)

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[Node]:
        node = lookup.node(snapshot, node_id)
        if not wanted:
            if node.tags:
                raise Invalid(
                    "a node cannot lose all of its tags", help="let its user log in on it again"
                )
            return outcome(snapshot, (), node)
        tagged = replace(
            node,
            user=None,
            tags=declared_tags(snapshot, wanted),
            key_expiry=node.key_expiry if node.expired(now) else None,
        )
        tagged = replace(tagged, approved=auto_approved(snapshot, tagged))
        return replaced(snapshot, node, tagged)

    return decide


def expire(node_id: NodeId, at: datetime | None = None) -> Decision[Node]:
    """Let the node key expire now, or at a time to come."""

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[Node]:
        node = lookup.node(snapshot, node_id)
        moment = now if at is None else max(at, now)
        if moment == now and node.expired(now):
            return outcome(snapshot, (), node)
        return replaced(snapshot, node, replace(node, key_expiry=moment))

    return decide


def disable_key_expiry(node_id: NodeId) -> Decision[Node]:
    """Let the node key never expire, those of later logins too; an expired node is back at once."""

    def decide(snapshot: Snapshot, _: datetime) -> Outcome[Node]:
        node = lookup.node(snapshot, node_id)
        return replaced(snapshot, node, replace(node, key_expiry=None, expiry_disabled=True))

    return decide


def enable_key_expiry(node_id: NodeId) -> Decision[Node]:
    """Let the node key expire after the tailnet's time, counted from now."""

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[Node]:
        node = lookup.node(snapshot, node_id)
        if node.key_expiry is not None:
            return replaced(snapshot, node, replace(node, expiry_disabled=False))
        life = snapshot.settings.key_expiry or DEFAULT_KEY_EXPIRY
        again = replace(node, key_expiry=now + life, expiry_disabled=False)
        return replaced(snapshot, node, again)

    return decide


def authorize(node_id: NodeId) -> Decision[Node]:
    """Approve the device."""
    return _authorized(node_id, authorized=True)


def deauthorize(node_id: NodeId) -> Decision[Node]:
    """Take the device's approval back: it sees nobody until it is approved again."""
    return _authorized(node_id, authorized=False)


def set_ipv4(node_id: NodeId, address: IPv4Address) -> Decision[Node]:
    """Give the node another IPv4 address; its IPv6 address stays.

    Raises (when carried out):
        Invalid: not an address for a node.
        Conflict: another node has it.
    """

    def decide(snapshot: Snapshot, _: datetime) -> Outcome[Node]:
        node = lookup.node(snapshot, node_id)
        addresses.check_free(snapshot, node.id, address)
        return replaced(snapshot, node, replace(node, ipv4=address))

    return decide


def delete(node_id: NodeId) -> Decision[Node]:
    """Remove the node; its id and stable id are never used again."""

    def decide(snapshot: Snapshot, _: datetime) -> Outcome[Node]:
        node = lookup.node(snapshot, node_id)
        return outcome(snapshot, removal(snapshot, node), node)

    return decide


def removal(snapshot: Snapshot, node: Node) -> list[Write]:
    """Return the writes that remove a node and whatever hangs on it."""
    writes: list[Write] = [
        Drop(Presence(node.id, replica, node.created))
        for replica in sorted(snapshot.presence.get(node.id, ()))
    ]
    return [*writes, Drop(node)]


def usable_endpoints(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the endpoints that peers could try, each once, sorted.

    SPEC(control-protocol 4.1): link-local and zoned IPv6 addresses mean nothing elsewhere.
    """
    return tuple(sorted({text for text in texts if _usable(text)})[:MAX_ENDPOINTS])


def _usable(text: str) -> bool:
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not port.isascii() or not 0 < int(port[:6]) <= _LAST_PORT:
        return False
    bracketed = host.startswith("[") and host.endswith("]")
    if "%" in host or bracketed != (":" in host):
        return False
    try:
        address: IPv4Address | IPv6Address = ip_address(host.strip("[]"))
    except ValueError:
        return False
    return not (address.is_unspecified or (address.version == 6 and address.is_link_local))


def _authorized(node_id: NodeId, *, authorized: bool) -> Decision[Node]:
    def decide(snapshot: Snapshot, _: datetime) -> Outcome[Node]:
        node = lookup.node(snapshot, node_id)
        return replaced(snapshot, node, replace(node, authorized=authorized))

    return decide
