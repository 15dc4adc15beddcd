"""Stand-ins for records whose rows are gone.

The journal says of a dropped record its class and its key; a `Drop` wants a record. Applying one
reads nothing else, so nothing else is kept.
"""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Final, assert_never, cast

from mergescale.domain.access import DENY_ALL, Access
from mergescale.domain.apikey import ApiKey
from mergescale.domain.authkey import AuthKey
from mergescale.domain.declaration import Declaration, Deployment
from mergescale.domain.login import PendingLogin
from mergescale.domain.node import Node
from mergescale.domain.prefixes import parse_prefix
from mergescale.domain.record import Counters, Following, Presence, Primary, Record, RecordKey
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.sshcheck import SshCheck
from mergescale.domain.user import Role, User
from mergescale.kernel.ids import ApiKeyId, AuthKeyId, LoginId, NodeId, ReplicaId, UserId
from mergescale.kernel.keys import MachineKey, NodeKey
from mergescale.store.mapping import Kind


def tombstone(kind: Kind, key: RecordKey) -> Record:  # noqa: C901 - a case for each class
    """Return a record that names its class and key and says nothing else.

    It stands in a `Drop` for a record whose row is gone.
    """
    match kind:
        case Kind.COUNTERS:
            return Counters()
        case Kind.USER:
            return User(UserId(cast("int", key)), "", "", Role.MEMBER, _NEVER)
        case Kind.AUTH_KEY:
            return AuthKey(AuthKeyId(cast("str", key)), b"", "", _NEVER, _NEVER)
        case Kind.API_KEY:
            return ApiKey(ApiKeyId(cast("str", key)), b"", "", _NEVER)
        case Kind.LOGIN:
            return _no_login(LoginId(cast("str", key)))
        case Kind.SSH_CHECK:
            return _no_check(LoginId(cast("str", key)))
        case Kind.NODE:
            return _no_node(NodeId(cast("int", key)))
        case Kind.PRESENCE:
            node, replica = cast("tuple[NodeId, ReplicaId]", key)
            return Presence(node, replica, _NEVER)
        case Kind.PRIMARY:
            return Primary(parse_prefix(cast("str", key)), NodeId(0))
        case Kind.FOLLOWING:
            return Following()
        case Kind.DEPLOYMENT:
            return Deployment("", {}, "", "", _NEVER, _NEVER, Declaration(_NoPolicy()))
        case _:
            assert_never(kind)


class _NoPolicy:
    """The policy of a deployment that was dropped."""

    __slots__ = ()

    def resolve(
        self,
        snapshot: Snapshot,  # noqa: ARG002
        before: Access | None = None,  # noqa: ARG002
    ) -> Access:
        return DENY_ALL


_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _no_login(key: LoginId) -> PendingLogin:
    none = NodeKey.zero()
    return PendingLogin(key, MachineKey.zero(), none, none, b"", False, 0, _NEVER, _NEVER)


def _no_check(key: LoginId) -> SshCheck:
    return SshCheck(key, NodeId(0), UserId(0), NodeId(0), "", _NEVER, _NEVER)


def _no_node(key: NodeId) -> Node:
    return Node(
        id=key,
        stable_id="",
        machine_key=MachineKey.zero(),
        node_key=NodeKey.zero(),
        name="",
        ipv4=IPv4Address(0),
        ipv6=IPv6Address(0),
        created=_NEVER,
    )
