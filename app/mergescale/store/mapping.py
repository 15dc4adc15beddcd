"""Records to rows and back, and the names that records have in the journal.

`Counters` and `Deployment` have one record per tailnet and live in or beside the tailnet's own
row; the other classes are a table each (`TABLES`), keyed by (tailnet, key).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final, assert_never

from sqlalchemy import Row, Table

from mergescale.domain.apikey import ApiKey
from mergescale.domain.authkey import AuthKey
from mergescale.domain.declaration import Declaration, Deployment
from mergescale.domain.login import PendingLogin
from mergescale.domain.node import Node
from mergescale.domain.prefixes import parse_prefix
from mergescale.domain.record import Counters, Following, Presence, Primary, Record, RecordKey
from mergescale.domain.sshcheck import SshCheck
from mergescale.domain.user import User
from mergescale.kernel.ids import (
    NodeId,
    ReplicaId,
    Revision,
    TailnetName,
    UserId,
)
from mergescale.store import rows, tables
from mergescale.store.rows import Values
from mergescale.store.shape import check_types

#: Turns the stored texts into what they mean; raises when it cannot.
Declare = Callable[[Mapping[str, str]], Declaration]


class Kind(StrEnum):
    """The class of a record, as the journal spells it; in the order of loading."""

    COUNTERS = "counters"
    USER = "user"
    AUTH_KEY = "auth-key"
    API_KEY = "api-key"
    LOGIN = "login"
    SSH_CHECK = "ssh-check"
    NODE = "node"
    PRESENCE = "presence"
    PRIMARY = "primary"
    FOLLOWING = "following"
    DEPLOYMENT = "deployment"


#: The classes with a table of their own, in the order of loading.
TABLES: Final[Mapping[Kind, Table]] = {
    Kind.USER: tables.USERS,
    Kind.AUTH_KEY: tables.AUTH_KEYS,
    Kind.API_KEY: tables.API_KEYS,
    Kind.LOGIN: tables.LOGINS,
    Kind.SSH_CHECK: tables.SSH_CHECKS,
    Kind.NODE: tables.NODES,
    Kind.PRESENCE: tables.PRESENCE,
    Kind.PRIMARY: tables.PRIMARIES,
    Kind.FOLLOWING: tables.FOLLOWING,
}


def kind_of(record: Record) -> Kind:  # noqa: C901 - a case for each class
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
        case SshCheck():
            return Kind.SSH_CHECK
        case Node():
            return Kind.NODE
        case Presence():
            return Kind.PRESENCE
        case Primary():
            return Kind.PRIMARY
        case Following():
            return Kind.FOLLOWING
        case Deployment():
            return Kind.DEPLOYMENT
        case _:
            assert_never(record)


def to_row(  # noqa: C901 - a case for each class
    tailnet: TailnetName, record: Record
) -> Values:
    """Return the record as a row of its table.

    `Counters` become columns of ``tailnets`` without its name; a `Deployment` lacks its revision.
    """
    match record:
        case Counters():
            return {"next_node": record.next_node, "next_user": record.next_user}
        case User():
            return {"tailnet": tailnet, **rows.user_values(record)}
        case AuthKey():
            return {"tailnet": tailnet, **rows.auth_key_values(record)}
        case ApiKey():
            return {"tailnet": tailnet, **rows.api_key_values(record)}
        case PendingLogin():
            return {"tailnet": tailnet, **rows.login_values(record)}
        case SshCheck():
            return {"tailnet": tailnet, **rows.ssh_check_values(record)}
        case Node():
            return {"tailnet": tailnet, **rows.node_values(record)}
        case Presence():
            return {
                "tailnet": tailnet,
                "node_id": record.node,
                "replica": record.replica,
                "since": record.since,
            }
        case Primary():
            return {"tailnet": tailnet, "prefix": str(record.prefix), "node_id": record.node}
        case Following():
            return {"tailnet": tailnet, **rows.following_values(record)}
        case Deployment():
            return {"tailnet": tailnet, **rows.deployment_values(record)}
        case _:
            assert_never(record)


def from_row(  # noqa: C901, PLR0912 - a case for each class
    kind: Kind, row: Row[Any]
) -> Record:
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
            return rows.user(row)
        case Kind.AUTH_KEY:
            return rows.auth_key(row)
        case Kind.API_KEY:
            return rows.api_key(row)
        case Kind.LOGIN:
            return rows.login(row)
        case Kind.SSH_CHECK:
            return rows.ssh_check(row)
        case Kind.NODE:
            return rows.node(row)
        case Kind.PRESENCE:
            return Presence(NodeId(row.node_id), ReplicaId(row.replica), row.since)
        case Kind.PRIMARY:
            return Primary(parse_prefix(row.prefix), NodeId(row.node_id))
        case Kind.FOLLOWING:
            return rows.following(row)
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
        by=row.applied_by,
        reason=row.reason,
        approved_by=row.approved_by,
        approved_because=row.approved_because,
        verified_by=rows.signers(row.verified_by),
        until=row.until,
    )


def key_columns(kind: Kind, key: RecordKey) -> Values:
    """Return the key as columns of the class's table, the tailnet left out."""
    match kind, key:
        case Kind.PRESENCE, (node, replica):
            return {"node_id": node, "replica": replica}
        case Kind.PRIMARY, prefix:
            return {"prefix": prefix}
        case Kind.FOLLOWING, _:
            return {}
        case _:
            return {"id": key}


def revision_of(row: Row[Any]) -> Revision:
    """Return the revision of a row of ``tailnets``, ``deployments`` or ``journal``."""
    return Revision(row.revision)
