"""The whole of ``/machine/register`` as one decision (spec 3.4).

The order of the questions is the security of it:

1. Is the node key another machine's? Refuse: node keys are public.
2. Is this a logout? It comes with the auth key it logged in by, so it goes first.
3. Is this a node that is known and in good standing? Then a spent key does not matter: a container
   restarts with the key it was given.
4. Is there an auth key? It must be good now: for a new node, a new node key, an expired node or
   another owner.
5. Otherwise somebody has to approve (``logins``).

INVARIANT(keys are used once): the key is checked and consumed in the decision that makes the node,
and decisions of a tailnet run one after another.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from mergescale.domain.authkey import AuthKey
from mergescale.domain.login import LoginState
from mergescale.domain.node import Node
from mergescale.domain.record import Put, Write
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import User
from mergescale.kernel.errors import Forbidden, Refusal
from mergescale.kernel.ids import AuthKeyId, LoginId
from mergescale.kernel.keys import MachineKey, NodeKey
from mergescale.state import lookup
from mergescale.state.admission import (
    Candidate,
    Grant,
    Owner,
    admit,
    check_active,
    check_tags,
    declared_tags,
    quoted,
    touched,
)
from mergescale.state.hostinfo import observe
from mergescale.state.logins import begin
from mergescale.state.nodes import removal
from mergescale.state.outcome import Decision, Outcome, outcome
from mergescale.wire.tailcfg.hostinfo import Hostinfo


@dataclass(frozen=True, slots=True)
class ShownKey:
    """A pre-auth key as the client showed it; a text that is none has an empty id.

    Attributes:
        secret_hash: SHA-256 of the secret part.
    """

    id: AuthKeyId
    secret_hash: bytes


@dataclass(frozen=True, slots=True)
class Fresh:
    """Unguessable values, drawn by the caller and used only if needed.

    Attributes:
        stable_id: of a new node.
        login_id: of a new pending login.
    """

    stable_id: str
    login_id: LoginId


@dataclass(frozen=True, slots=True)
class Request:
    """tailcfg.RegisterRequest in our words.

    Attributes:
        machine_key: proved by the Noise handshake.
        node_key: the key the node wants to use; zero is refused.
        old_node_key: the one before, zero for none.
        auth: the pre-auth key shown, if any.
        expiry: in the past it asks for logout, in the future for an earlier key expiry; None for
            Go's zero time.
        followup: the login this waits for, from the last part of the AuthURL.
        capability_version: of the client.
    """

    machine_key: MachineKey
    node_key: NodeKey
    hostinfo: Hostinfo
    fresh: Fresh
    capability_version: int
    old_node_key: NodeKey = NodeKey.zero()
    auth: ShownKey | None = None
    expiry: datetime | None = None
    followup: LoginId | None = None
    ephemeral: bool = False


@dataclass(frozen=True, slots=True)
class Registered:
    """The node may open its map stream.

    Attributes:
        user: None for a tagged node, which the wire shows as `TAGGED_USER_ID`.
    """

    node: Node
    user: User | None


@dataclass(frozen=True, slots=True)
class LoginNeeded:
    """Somebody has to approve. When it is the login that was followed up, hold the request."""

    login_id: LoginId


@dataclass(frozen=True, slots=True)
class KeyExpired:
    """The client has to make a new node key and come back (tailcfg NodeKeyExpired)."""


@dataclass(frozen=True, slots=True)
class LoggedOut:
    """The node is expired or gone, as it wished."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The text is for the person at the device (tailcfg Error)."""

    text: str


Answer = Registered | LoginNeeded | KeyExpired | LoggedOut | Refused


def register(request: Request) -> Decision[Answer]:
    """Decide about a register request."""

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[Answer]:
        try:
            writes, answer = _answer(snapshot, request, now)
        except Refusal as refusal:
            writes, answer = (), Refused(refusal.message)
        return outcome(snapshot, writes, answer)

    return decide


def begins_login(request: Request) -> Decision[bool]:
    """Say whether `register` would begin a login; writes nothing."""

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[bool]:
        try:
            _, answer = _answer(snapshot, request, now)
        except Refusal:
            return outcome(snapshot, (), False)
        return outcome(snapshot, (), answer == LoginNeeded(request.fresh.login_id))

    return decide


def _answer(snapshot: Snapshot, request: Request, now: datetime) -> tuple[Sequence[Write], Answer]:
    if not request.node_key:
        return (), Refused("a node key is missing")
    node = snapshot.node_of(request.machine_key, request.node_key)
    if node is None and request.node_key in snapshot.by_node_key:
        return (), Refused("this node key belongs to another machine")
    if request.expiry is not None and request.expiry <= now:
        return _log_out(snapshot, node, now), LoggedOut()
    if node is not None and not node.expired(now) and not _other_owner(snapshot, request, node):
        return _welcome_back(snapshot, request, node, now)
    if request.auth is not None:
        return _by_auth_key(snapshot, request, node, now)
    if node is not None:
        return (), KeyExpired()
    return _by_login(snapshot, request, now)


def _log_out(snapshot: Snapshot, node: Node | None, now: datetime) -> Sequence[Write]:
    """Remove an ephemeral node, expire any other: now, not in 1970 as the request has it."""
    if node is None or (not node.ephemeral and node.expired(now)):
        return ()
    if node.ephemeral:
        return removal(snapshot, node)
    return (Put(replace(node, key_expiry=now)),)


def _other_owner(snapshot: Snapshot, request: Request, node: Node) -> bool:
    """Say whether the client shows a key of somebody else than the node's owner.

    A key that is unknown by now, or the one it registered with, changes nothing: an operator may
    have tagged the node since.
    """
    key = _shown_key(snapshot, request)
    if key is None or key.id == node.auth_key:
        return False
    return (key.user, key.tags) != (node.user, node.tags)


def _welcome_back(
    snapshot: Snapshot, request: Request, node: Node, now: datetime
) -> tuple[Sequence[Write], Answer]:
    """Answer for a node that is known: nothing about its standing changes.

    Its key may expire sooner if it wishes so, never later.
    """
    back = observe(snapshot, node, request.hostinfo)
    if request.expiry is not None and (back.key_expiry is None or request.expiry < back.key_expiry):
        back = replace(back, key_expiry=request.expiry)
    back = touched(snapshot, replace(back, capability_version=request.capability_version), now)
    answer = Registered(back, snapshot.owner(back))
    return (() if back == node else (Put(back),)), answer


def _by_auth_key(
    snapshot: Snapshot, request: Request, node: Node | None, now: datetime
) -> tuple[Sequence[Write], Answer]:
    key = _valid_key(snapshot, request, now)
    owner = _owner_by_key(snapshot, key, request.hostinfo.request_tags)
    if node is not None and _changes_user(node, owner):
        # Another user's node is another node and cannot share a key with the first one.
        return (), KeyExpired()
    candidate = Candidate(
        machine_key=request.machine_key,
        node_key=request.node_key,
        old_node_key=request.old_node_key,
        hostinfo=request.hostinfo,
        ephemeral=request.ephemeral or key.ephemeral,
        capability_version=request.capability_version,
        stable_id=request.fresh.stable_id,
    )
    grant = Grant(owner, key.preauthorized, key.id, request.expiry)
    admitted, writes = admit(snapshot, candidate, grant, now)
    spent = replace(key, uses=key.uses + 1, last_used=now)
    return [*writes, Put(spent)], Registered(admitted, snapshot.owner(admitted))


def _changes_user(node: Node, owner: Owner) -> bool:
    return node.user is not None and owner.user is not None and node.user != owner.user


def _shown_key(snapshot: Snapshot, request: Request) -> AuthKey | None:
    """Return the key that was shown if it exists and its secret is right."""
    if request.auth is None:
        return None
    key = snapshot.auth_keys.get(request.auth.id)
    if key is None or not hmac.compare_digest(key.secret_hash, request.auth.secret_hash):
        return None
    return key


def _valid_key(snapshot: Snapshot, request: Request, now: datetime) -> AuthKey:
    """Return the key that was shown; raise `Forbidden` unless it may admit a node now."""
    key = _shown_key(snapshot, request)
    if key is None:
        raise Forbidden("the auth key is not valid")
    if key.revoked is not None:
        raise Forbidden("the auth key was revoked")
    if now >= key.expires:
        raise Forbidden("the auth key has expired")
    if not key.usable(now):
        raise Forbidden("the auth key was used already")
    return key


def _owner_by_key(snapshot: Snapshot, key: AuthKey, requested: Sequence[str]) -> Owner:
    """Return who owns a node that the key admits.

    A tagged key gives its own tags, no more and no less. A user's key gives the user's node, or a
    tagged one where the user may give every tag that is asked for.
    """
    if key.tags:
        foreign = sorted(set(requested) - set(key.tags))
        if foreign:
            raise Forbidden(f"requested tags {quoted(foreign)} are not among the auth key's")
        return Owner(tags=declared_tags(snapshot, key.tags))
    if key.user is None:
        raise Forbidden("the auth key is not valid")
    user = check_active(lookup.user(snapshot, key.user))
    if requested:
        return Owner(tags=check_tags(snapshot, user, requested))
    return Owner(user=user.id)


def _by_login(
    snapshot: Snapshot, request: Request, now: datetime
) -> tuple[Sequence[Write], Answer]:
    """Answer by the state of the login that is followed up, or begin one.

    An approved login whose node is in good standing never gets here. Somebody else's login is
    treated like one that does not exist.
    """
    followed = None if request.followup is None else snapshot.logins.get(request.followup)
    if (
        followed is not None
        and followed.state is LoginState.REJECTED
        and followed.machine_key == request.machine_key
        and now < followed.expires
    ):
        return (), Refused("the login was rejected")
    writes, login = begin(
        snapshot,
        request.fresh.login_id,
        Candidate(
            machine_key=request.machine_key,
            node_key=request.node_key,
            old_node_key=request.old_node_key,
            hostinfo=request.hostinfo,
            ephemeral=request.ephemeral,
            capability_version=request.capability_version,
            stable_id=request.fresh.stable_id,
        ),
        now,
    )
    return writes, LoginNeeded(login.id)
