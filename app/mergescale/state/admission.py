"""Making a node, or letting a known one in again, once somebody vouched for it.

Who vouches differs (a pre-auth key in ``registration``, a person in ``logins``); what follows is
the same and is here, so that no way in has checks of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from mergescale.domain.node import Node
from mergescale.domain.record import Put, Write
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import User
from mergescale.kernel.errors import Conflict, Forbidden, Invalid
from mergescale.kernel.ids import AuthKeyId, NodeId, UserId
from mergescale.kernel.keys import MachineKey, NodeKey
from mergescale.state import addresses, names
from mergescale.state.hostinfo import observe
from mergescale.wire.tailcfg.hostinfo import Hostinfo


@dataclass(frozen=True, slots=True)
class Owner:
    """Who a node belongs to: a user or tags, never both and never neither.

    Attributes:
        tags: sorted.
    """

    user: UserId | None = None
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.user is None) == (not self.tags):
            raise Invalid("a node belongs to a user or to tags")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A machine that asks to be a node.

    Attributes:
        node_key: the WireGuard key it will use from now on.
        old_node_key: the one before, zero for none; may be stale or unknown and is then ignored.
        stable_id: fresh and unguessable; used if this makes a new node.
    """

    machine_key: MachineKey
    node_key: NodeKey
    old_node_key: NodeKey
    hostinfo: Hostinfo
    ephemeral: bool
    capability_version: int
    stable_id: str


@dataclass(frozen=True, slots=True)
class Grant:
    """What whoever vouched gave.

    Attributes:
        expiry: the client's own wish for an earlier key expiry, if any.
    """

    owner: Owner
    preauthorized: bool = False
    auth_key: AuthKeyId | None = None
    expiry: datetime | None = None


def admit(
    snapshot: Snapshot, candidate: Candidate, grant: Grant, now: datetime
) -> tuple[Node, list[Write]]:
    """Return the node that the candidate is from now on, and the writes that make it so.

    The same machine under the same owner keeps its id, stable id, addresses and name. Under
    another user it is another node: nothing of the first one's passes over.

    Raises:
        Conflict: the node key is in use elsewhere, or there is no address left.
    """
    known = known_node(snapshot, candidate, grant.owner)
    _check_key_free(snapshot, candidate.node_key, known)
    writes: list[Write] = []
    if known is None:
        counters = snapshot.counters
        node = _new(snapshot, counters.next_node, candidate, grant.owner, now)
        node = replace(node, authorized=not snapshot.settings.device_approval)
        writes.append(Put(replace(counters, next_node=NodeId(counters.next_node + 1))))
    elif (known.user, known.tags) == (grant.owner.user, grant.owner.tags):
        node = known
    else:
        # Routes were approved, and expiry was switched off, for the owner before.
        node = replace(known, approved=frozenset(), expiry_disabled=False)
    node = replace(
        node,
        user=grant.owner.user,
        tags=grant.owner.tags,
        node_key=candidate.node_key,
        capability_version=candidate.capability_version,
        ephemeral=candidate.ephemeral,
        authorized=node.authorized or grant.preauthorized,
        key_expiry=_key_expiry(snapshot, node, grant, now),
        auth_key=grant.auth_key,
    )
    node = touched(snapshot, observe(snapshot, node, candidate.hostinfo), now)
    writes.append(Put(node))
    return node, writes


def known_node(snapshot: Snapshot, candidate: Candidate, owner: Owner) -> Node | None:
    """Return the node this candidate was before, or None if it is new to this owner.

    First the node it names by key, current or previous, as long as that is its own machine's:
    this is how a user's node becomes a tagged one and back. Then any of this machine and owner.
    A node of another user never matches.
    """
    for key in (candidate.node_key, candidate.old_node_key):
        named = snapshot.node_of(candidate.machine_key, key)
        if named is not None and not _of_another_user(named, owner):
            return named
    siblings = [snapshot.nodes[n] for n in snapshot.by_machine.get(candidate.machine_key, ())]
    same = [n for n in siblings if n.user == owner.user]
    return min(same, key=lambda node: (node.created, node.id), default=None)


def check_tags(snapshot: Snapshot, user: User, tags: Iterable[str]) -> tuple[str, ...]:
    """Return the tags in order if the user may give every one of them.

    Raises:
        Forbidden: not all of them; then none is given.
    """
    wanted = tuple(sorted(set(tags)))
    refused = [tag for tag in wanted if not snapshot.access.may_take_tag(user, tag)]
    if refused:
        raise Forbidden(
            f"requested tags {quoted(refused)} are not permitted",
            help="`tagOwners` in the policy says who may use a tag",
        )
    return wanted


def declared_tags(snapshot: Snapshot, tags: Iterable[str]) -> tuple[str, ...]:
    """Return the tags in order if the policy declares every one of them.

    Raises:
        Invalid: it does not.
    """
    wanted = tuple(sorted(set(tags)))
    unknown = [tag for tag in wanted if not snapshot.access.has_tag(tag)]
    if unknown:
        raise Invalid(
            f"tags {quoted(unknown)} are not declared", help="add them to `tagOwners` in the policy"
        )
    return wanted


def quoted(texts: Iterable[str]) -> str:
    """Return texts for a message, each in quotes, shortened where somebody went too far."""
    return ", ".join(f'"{text[:80]}"' for text in list(texts)[:8])


def touched(snapshot: Snapshot, node: Node, now: datetime) -> Node:
    """Note that an ephemeral node is alive, so that it is not removed before its map stream opens."""
    if node.ephemeral and not snapshot.online(node.id):
        return replace(node, last_seen=now)
    return node


def check_active(user: User) -> User:
    """Return the user; raise `Forbidden` when suspended."""
    if user.suspended:
        raise Forbidden(f'user "{user.login}" is suspended')
    return user


def _check_key_free(snapshot: Snapshot, key: NodeKey, known: Node | None) -> None:
    """INVARIANT(one node per key): node keys are public, so having one proves nothing."""
    holder = snapshot.by_node_key.get(key)
    if holder is not None and (known is None or known.id != holder):
        raise Conflict("this node key belongs to another node")


def _of_another_user(node: Node, owner: Owner) -> bool:
    return node.user is not None and owner.user is not None and node.user != owner.user


def _new(
    snapshot: Snapshot, node_id: NodeId, candidate: Candidate, owner: Owner, now: datetime
) -> Node:
    """Return a node with identity, addresses and a name; `admit` fills in the rest."""
    user = None if owner.user is None else snapshot.users[owner.user]
    pools = snapshot.access.address_pools(owner.tags, user)
    ipv4, ipv6 = addresses.allocate(snapshot, node_id, parts=pools)
    return Node(
        id=node_id,
        stable_id=candidate.stable_id,
        machine_key=candidate.machine_key,
        node_key=candidate.node_key,
        name=names.free(snapshot, candidate.hostinfo.hostname),
        ipv4=ipv4,
        ipv6=ipv6,
        created=now,
    )


def _key_expiry(snapshot: Snapshot, node: Node, grant: Grant, now: datetime) -> datetime | None:
    """Return when the key expires: by the settings for a user's node, never for a tagged one.

    Nor for one whose expiry an operator has switched off. A client may ask for less, not for more.
    """
    exempt = grant.owner.tags or node.expiry_disabled
    life = None if exempt else snapshot.settings.key_expiry
    limits = [now + life] if life is not None else []
    if grant.expiry is not None:
        limits.append(grant.expiry)
    return min(limits, default=None)
