"""Records as columns, and rows as records: one pair of functions for each class of many columns."""

from __future__ import annotations

import json
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

import msgspec
from sqlalchemy import Row

from mergescale.domain.apikey import ApiKey
from mergescale.domain.authkey import AuthKey
from mergescale.domain.declaration import Deployment
from mergescale.domain.login import LoginState, PendingLogin
from mergescale.domain.node import Node
from mergescale.domain.posture import CustomAttribute
from mergescale.domain.prefixes import Prefix, parse_prefix, sort_key
from mergescale.domain.record import Approval, Delivered, Following, Hold, Override, Trial
from mergescale.domain.sshcheck import SshCheck
from mergescale.domain.user import Role, User
from mergescale.kernel.ids import ApiKeyId, AuthKeyId, LoginId, NodeId, ReplicaId, UserId
from mergescale.kernel.keys import DiscoKey, MachineKey, NodeKey

#: A row as parameters of a statement.
Values = dict[str, Any]

#: LIMIT: JavaScript and many a JSON reader know whole numbers up to here (spec 9.3, pitfall 44).
_LAST_ID: Final = 2**53 - 1


def user_values(user: User) -> Values:
    """Return a user as columns."""
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


def user(row: Row[Any]) -> User:
    """Return the user of a row."""
    return User(
        id=UserId(row.id),
        login=row.login,
        display_name=row.display_name,
        role=Role(row.role),
        created=row.created,
        declared=row.declared,
        suspended=row.suspended,
    )


def auth_key_values(key: AuthKey) -> Values:
    """Return a pre-auth key as columns."""
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


def auth_key(row: Row[Any]) -> AuthKey:
    """Return the pre-auth key of a row."""
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


def api_key_values(key: ApiKey) -> Values:
    """Return an API token as columns."""
    return {
        "id": key.id,
        "secret_hash": key.secret_hash,
        "description": key.description,
        "created": key.created,
        "expires": key.expires,
        "last_used": key.last_used,
        "revoked": key.revoked,
        "client_scopes": None if key.client_scopes is None else _texts(key.client_scopes),
    }


def api_key(row: Row[Any]) -> ApiKey:
    """Return the API token of a row."""
    return ApiKey(
        id=ApiKeyId(row.id),
        secret_hash=row.secret_hash,
        description=row.description,
        created=row.created,
        expires=row.expires,
        last_used=row.last_used,
        revoked=row.revoked,
        client_scopes=None if row.client_scopes is None else _read_texts(row.client_scopes),
    )


def login_values(login: PendingLogin) -> Values:
    """Return a pending login as columns."""
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


def login(row: Row[Any]) -> PendingLogin:
    """Return the pending login of a row."""
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


def ssh_check_values(check: SshCheck) -> Values:
    """Return an SSH check as columns."""
    return {
        "id": check.id,
        "source_id": check.source,
        "user_id": check.user,
        "target_id": check.target,
        "local_user": check.local_user,
        "created": check.created,
        "expires": check.expires,
        "state": check.state.value,
        "decided": check.decided,
    }


def ssh_check(row: Row[Any]) -> SshCheck:
    """Return the SSH check of a row."""
    return SshCheck(
        id=LoginId(row.id),
        source=NodeId(row.source_id),
        user=UserId(row.user_id),
        target=NodeId(row.target_id),
        local_user=row.local_user,
        created=row.created,
        expires=row.expires,
        state=LoginState(row.state),
        decided=row.decided,
    )


def node_values(node: Node) -> Values:
    """Return a node as columns."""
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
        "expiry_disabled": node.expiry_disabled,
        "auth_key": node.auth_key,
        "last_seen": node.last_seen,
        "custom": _custom(node.custom),
    }


def node(row: Row[Any]) -> Node:
    """Return the node of a row."""
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
        expiry_disabled=row.expiry_disabled,
        auth_key=None if row.auth_key is None else AuthKeyId(row.auth_key),
        last_seen=row.last_seen,
        custom=_read_custom(row.custom),
    )


def deployment_values(deployment: Deployment) -> Values:
    """Return a deployment as columns, its revision left out."""
    return {
        "commit_id": deployment.commit,
        "files": json.dumps(dict(deployment.files), separators=(",", ":")),
        "subject": deployment.subject,
        "author": deployment.author,
        "committed": deployment.committed,
        "applied": deployment.applied,
        "applied_by": deployment.by,
        "reason": deployment.reason,
        "approved_by": deployment.approved_by,
        "approved_because": deployment.approved_because,
        "verified_by": json.dumps(deployment.verified_by, separators=(",", ":")),
        "until": deployment.until,
    }


def signers(text: str) -> tuple[str, ...]:
    """Read who signed; what means nothing is nobody, since no decision depends on it."""
    try:
        told = json.loads(text)
    except (TypeError, ValueError):
        return ()
    return tuple(one for one in told if isinstance(one, str)) if isinstance(told, list) else ()


def following_values(following: Following) -> Values:
    """Return what replicas tell each other as columns, the tailnet left out."""
    held = following.held
    return {
        "status": following.status,
        "asked": following.asked,
        "answered": following.answered,
        "retried": following.retried,
        "held": held is not None,
        "held_reason": "" if held is None else held.reason,
        "held_by": "" if held is None else held.by,
        "held_since": None if held is None else held.since,
        "held_until": None if held is None else held.until,
        "held_commit": "" if held is None else held.pinned,
        "skipped": json.dumps(list(following.skipped), separators=(",", ":")),
        "accepted": following.accepted,
        "override": _override(following.override),
        "delivered": json.dumps(
            [
                [one.replica, one.commit, one.applied.isoformat(), one.nodes]
                for one in following.delivered
            ],
            separators=(",", ":"),
        ),
        "approvals": msgspec.json.encode(following.approvals).decode(),
        "trial_commit": "" if following.trial is None else following.trial.commit,
        "trial_begun": 0 if following.trial is None else following.trial.begun,
        "trial_reason": "" if following.trial is None else following.trial.reason,
    }


def following(row: Row[Any]) -> Following:
    """Return what `following_values` made columns of."""
    held = None
    if row.held:
        held = Hold(row.held_reason, row.held_by, row.held_since, row.held_until, row.held_commit)
    skipped = tuple(str(one) for one in json.loads(row.skipped))
    delivered = tuple(
        Delivered(ReplicaId(replica), commit, datetime.fromisoformat(applied), nodes)
        for replica, commit, applied, nodes in json.loads(row.delivered)
    )
    override = None
    if row.override is not None:
        override = msgspec.json.decode(row.override, type=Override)
    trial = None
    if row.trial_commit:
        trial = Trial(row.trial_commit, row.trial_begun, row.trial_reason)
    return Following(
        status=row.status,
        asked=row.asked,
        answered=row.answered,
        held=held,
        skipped=skipped,
        accepted=row.accepted,
        override=override,
        delivered=delivered,
        approvals=msgspec.json.decode(row.approvals, type=tuple[Approval, ...]),
        trial=trial,
        retried=row.retried,
    )


def _override(override: Override | None) -> str | None:
    return None if override is None else msgspec.json.encode(override).decode()


def _custom(attributes: tuple[CustomAttribute, ...]) -> str:
    """Return a list of name, value and expiry (RFC 3339, or null)."""
    listed = [
        (one.name, one.value, None if one.expires is None else one.expires.isoformat())
        for one in attributes
    ]
    return json.dumps(listed, separators=(",", ":"))


def _read_custom(text: str) -> tuple[CustomAttribute, ...]:
    return tuple(
        CustomAttribute(name, value, None if over is None else datetime.fromisoformat(over))
        for name, value, over in json.loads(text)
    )


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
