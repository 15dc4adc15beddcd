"""Records to rows and back, and the names that records have in the journal.

`Counters` and `Deployment` have one record per tailnet and live in or beside the tailnet's own
row; the other classes are a table each (`TABLES`), keyed by (tailnet, key).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, assert_never

from sqlalchemy import Row, Table

from mergescale.domain.apikey import ApiKey
from mergescale.domain.authkey import AuthKey
from mergescale.domain.declaration import Declaration, Deployment
from mergescale.domain.login import LoginState, PendingLogin
from mergescale.domain.node import Node
from mergescale.domain.prefixes import Prefix, parse_prefix, sort_key
from mergescale.domain.record import Counters, Presence, Record, RecordKey
from mergescale.domain.user import Role, User
from mergescale.kernel.ids import (
    ApiKeyId,
    AuthKeyId,
    LoginId,
    NodeId,
    ReplicaId,
    Revision,
    TailnetName,
    UserId,
)
from mergescale.kernel.keys import DiscoKey, MachineKey, NodeKey
from mergescale.store import tables
from mergescale.store.shape import check_types

#: Turns the stored texts into what they mean; raises when it cannot.
Declare = Callable[[Mapping[str, str]], Declaration]
#: A row as parameters of a statement.
Values = dict[str, Any]


class Kind(StrEnum):
    """The class of a record, as the journal spells it; in the order of loading."""

    COUNTERS = "counters"
    USER = "user"
    AUTH_KEY = "auth-key"
    API_KEY = "api-key"
    LOGIN = "login"
    NODE = "node"
    PRESENCE = "presence"
    DEPLOYMENT = "deployment"


#: The classes with a table of their own, in the order of loading.
TABLES: Final[Mapping[Kind, Table]] = {
    Kind.USER: tables.USERS,
    Kind.AUTH_KEY: tables.AUTH_KEYS,
    Kind.API_KEY: tables.API_KEYS,
    Kind.LOGIN: tables.LOGINS,
    Kind.NODE: tables.NODES,
    Kind.PRESENCE: tables.PRESENCE,
}


#: LIMIT: JavaScript and many a JSON reader know whole numbers up to here (spec 9.3, pitfall 44).
_LAST_ID: Final = 2**53 - 1


def kind_of(record: Record) -> Kind:
    """Return the record's class."""
    match record:
        case Counters():
            return Kind.COUNTERS
        case User():
            return Kind.USER
        case AuthKey():
            return Kind.AUTH_KEY
        case ApiKey():
            return Kind.API_KEY
        case PendingLogin():
            return Kind.LOGIN
        case Node():
            return Kind.NODE
        case Presence():
            return Kind.PRESENCE
        case Deployment():
            return Kind.DEPLOYMENT
        case _:
            assert_never(record)


def to_row(tailnet: TailnetName, record: Record) -> Values:
    """Return the record as a row of its table.

    `Counters` become columns of ``tailnets`` without its name; a `Deployment` lacks its revision.
    """
    match record:
        case Counters():
            return {"next_node": record.next_node, "next_user": record.next_user}
        case User():
            return {"tailnet": tailnet, **_user_values(record)}
        case AuthKey():
            return {"tailnet": tailnet, **_auth_key_values(record)}
        case ApiKey():
            return {"tailnet": tailnet, **_api_key_values(record)}
        case PendingLogin():
            return {"tailnet": tailnet, **_login_values(record)}
        case Node():
            return {"tailnet": tailnet, **_node_values(record)}
        case Presence():
            return {
                "tailnet": tailnet,
                "node_id": record.node,
                "replica": record.replica,
                "since": record.since,
            }
        case Deployment():
            return {"tailnet": tailnet, **_deployment_values(record)}
        case _:
            assert_never(record)


def from_row(kind: Kind, row: Row[Any]) -> Record:
    """Return the record that `to_row` made the row of; `Kind.DEPLOYMENT` has its own function.

    Raises:
        ValueError: the row holds what no record can.
        Invalid: a key has the wrong length.
    """
    if kind in TABLES:
        check_types(TABLES[kind], row)
    match kind:
        case Kind.COUNTERS:
            return Counters(NodeId(row.next_node), UserId(row.next_user))
        case Kind.USER:
            return _user(row)
        case Kind.AUTH_KEY:
            return _auth_key(row)
        case Kind.API_KEY:
            return _api_key(row)
        case Kind.LOGIN:
            return _login(row)
        case Kind.NODE:
            return _node(row)
        case Kind.PRESENCE:
            return Presence(NodeId(row.node_id), ReplicaId(row.replica), row.since)
        case Kind.DEPLOYMENT:
            raise ValueError("a deployment is read together with its declaration")
        case _:
            assert_never(kind)


def deployment_from_row(row: Row[Any], declare: Declare) -> Deployment:
    """Return the deployment; whatever `declare` raises goes through."""
    files = json.loads(row.files)
    return Deployment(
        commit=row.commit_id,
        files=files,
        subject=row.subject,
        author=row.author,
        committed=row.committed,
        applied=row.applied,
        declaration=declare(files),
    )


def key_columns(kind: Kind, key: RecordKey) -> Values:
    """Return the key as columns of the class's table, the tailnet left out."""
    match kind, key:
        case Kind.PRESENCE, (node, replica):
            return {"node_id": node, "replica": replica}
        case _:
            return {"id": key}


def revision_of(row: Row[Any]) -> Revision:
    """Return the revision of a row of ``tailnets``, ``deployments`` or ``journal``."""
    return Revision(row.revision)


def _user_values(user: User) -> Values:
    return {
        "id": user.id,
        "login": user.login,
        "login_folded": user.login.casefold(),
        "display_name": user.display_name,
        "role": user.role.value,
        "created": user.created,
        "declared": user.declared,
        "suspended": user.suspended,
    }


def _user(row: Row[Any]) -> User:
    return User(
        id=UserId(row.id),
        login=row.login,
        display_name=row.display_name,
        role=Role(row.role),
        created=row.created,
        declared=row.declared,
        suspended=row.suspended,
    )


def _auth_key_values(key: AuthKey) -> Values:
    return {
        "id": key.id,
        "secret_hash": key.secret_hash,
        "description": key.description,
        "created": key.created,
        "expires": key.expires,
        "user_id": key.user,
        "tags": _texts(key.tags),
        "reusable": key.reusable,
        "ephemeral": key.ephemeral,
        "preauthorized": key.preauthorized,
        "uses": key.uses,
        "last_used": key.last_used,
        "revoked": key.revoked,
    }


def _auth_key(row: Row[Any]) -> AuthKey:
    return AuthKey(
        id=AuthKeyId(row.id),
        secret_hash=row.secret_hash,
        description=row.description,
        created=row.created,
        expires=row.expires,
        user=_user_id(row.user_id),
        tags=_read_texts(row.tags),
        reusable=row.reusable,
        ephemeral=row.ephemeral,
        preauthorized=row.preauthorized,
        uses=row.uses,
        last_used=row.last_used,
        revoked=row.revoked,
    )


def _api_key_values(key: ApiKey) -> Values:
    return {
        "id": key.id,
        "secret_hash": key.secret_hash,
        "description": key.description,
        "created": key.created,
        "expires": key.expires,
        "last_used": key.last_used,
        "revoked": key.revoked,
    }


def _api_key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=ApiKeyId(row.id),
        secret_hash=row.secret_hash,
        description=row.description,
        created=row.created,
        expires=row.expires,
        last_used=row.last_used,
        revoked=row.revoked,
    )


def _login_values(login: PendingLogin) -> Values:
    return {
        "id": login.id,
        "machine_key": login.machine_key.raw,
        "node_key": login.node_key.raw,
        "old_node_key": login.old_node_key.raw,
        "hostinfo": login.hostinfo,
        "ephemeral": login.ephemeral,
        "capability_version": login.capability_version,
        "created": login.created,
        "expires": login.expires,
        "state": login.state.value,
        "node_id": login.node,
    }


def _login(row: Row[Any]) -> PendingLogin:
    return PendingLogin(
        id=LoginId(row.id),
        machine_key=MachineKey(row.machine_key),
        node_key=NodeKey(row.node_key),
        old_node_key=NodeKey(row.old_node_key),
        hostinfo=row.hostinfo,
        ephemeral=row.ephemeral,
        capability_version=row.capability_version,
        created=row.created,
        expires=row.expires,
        state=LoginState(row.state),
        node=None if row.node_id is None else NodeId(row.node_id),
    )


def _node_values(node: Node) -> Values:
    return {
        "id": node.id,
        "stable_id": node.stable_id,
        "machine_key": node.machine_key.raw,
        "node_key": node.node_key.raw,
        "disco_key": node.disco_key.raw,
        "name": node.name,
        "name_pinned": node.name_pinned,
        "ipv4": str(node.ipv4),
        "ipv6": str(node.ipv6),
        "created": node.created,
        "user_id": node.user,
        "tags": _texts(node.tags),
        "hostinfo": node.hostinfo,
        "advertised": _prefixes(node.advertised),
        "approved": _prefixes(tuple(sorted(node.approved, key=sort_key))),
        "endpoints": _texts(node.endpoints),
        "home_derp": node.home_derp,
        "capability_version": node.capability_version,
        "ephemeral": node.ephemeral,
        "authorized": node.authorized,
        "key_expiry": node.key_expiry,
        "auth_key": node.auth_key,
        "last_seen": node.last_seen,
    }


def _node(row: Row[Any]) -> Node:
    return Node(
        id=_node_id(row.id),
        stable_id=row.stable_id,
        machine_key=MachineKey(row.machine_key),
        node_key=NodeKey(row.node_key),
        disco_key=DiscoKey(row.disco_key),
        name=row.name,
        name_pinned=row.name_pinned,
        ipv4=IPv4Address(row.ipv4),
        ipv6=IPv6Address(row.ipv6),
        created=row.created,
        user=_user_id(row.user_id),
        tags=_read_texts(row.tags),
        hostinfo=row.hostinfo,
        advertised=_read_prefixes(row.advertised),
        approved=frozenset(_read_prefixes(row.approved)),
        endpoints=_read_texts(row.endpoints),
        home_derp=row.home_derp,
        capability_version=row.capability_version,
        ephemeral=row.ephemeral,
        authorized=row.authorized,
        key_expiry=row.key_expiry,
        auth_key=None if row.auth_key is None else AuthKeyId(row.auth_key),
        last_seen=row.last_seen,
    )


def _deployment_values(deployment: Deployment) -> Values:
    return {
        "commit_id": deployment.commit,
        "files": json.dumps(dict(deployment.files), separators=(",", ":")),
        "subject": deployment.subject,
        "author": deployment.author,
        "committed": deployment.committed,
        "applied": deployment.applied,
    }


def _user_id(value: int | None) -> UserId | None:
    return None if value is None else UserId(value)


def _node_id(value: int) -> NodeId:
    if not 1 <= value <= _LAST_ID:
        raise ValueError("it is no number of a node")
    return NodeId(value)


def _texts(texts: tuple[str, ...]) -> str:
    # ASCII only: PostgreSQL has no text with a NUL in it, and JSON's escape for it is fine.
    return json.dumps(texts, separators=(",", ":")) if texts else "[]"


def _read_texts(text: str) -> tuple[str, ...]:
    if text == "[]":
        return ()
    texts = json.loads(text)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("it is no list of texts")
    return tuple(texts)


def _prefixes(prefixes: tuple[Prefix, ...]) -> str:
    return _texts(tuple(map(str, prefixes)))


def _read_prefixes(text: str) -> tuple[Prefix, ...]:
    return tuple(map(parse_prefix, _read_texts(text)))
