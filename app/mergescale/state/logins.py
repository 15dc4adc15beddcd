"""Interactive logins: a machine asks, a person approves or rejects.

Anybody may make a machine ask, so what is pending is bounded and short-lived. The id is the only
secret: whoever knows it may look at the login, nobody may answer it without being an operator.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from mergescale.domain.login import LoginState, PendingLogin
from mergescale.domain.node import Node
from mergescale.domain.record import Drop, Put, Write
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.errors import Conflict, Invalid, NotFound
from mergescale.kernel.ids import LoginId
from mergescale.kernel.keys import MachineKey
from mergescale.state import lookup
from mergescale.state.admission import (
    Candidate,
    Grant,
    Owner,
    admit,
    check_active,
    check_tags,
    declared_tags,
)
from mergescale.state.outcome import Decision, Outcome, outcome
from mergescale.wire.tailcfg.hostinfo import decode_hostinfo

#: LIMIT: logins of one tailnet, decided ones included; headscale keeps as many.
MAX_LOGINS: Final = 1024
#: LIMIT: what one machine may have pending, so that a single key cannot drive out the others.
MAX_PER_MACHINE: Final = 4
#: LIMIT: time to find the person who approves; headscale gives a quarter of it.
LIFE: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Approval:
    """What a person decided about a login.

    Attributes:
        user: login of the node's owner; None if `tags` own it.
        tags: own the node; given by an operator, so that they need only be declared.
        preauthorized: also approves the device, where the tailnet asks for that.
        stable_id: fresh and unguessable; used if this makes a new node.
    """

    stable_id: str
    user: str | None = None
    tags: tuple[str, ...] = ()
    preauthorized: bool = False


def begin(
    snapshot: Snapshot, login_id: LoginId, candidate: Candidate, now: datetime
) -> tuple[Sequence[Write], PendingLogin]:
    """Return the login that this machine waits at with this node key, and what makes it so.

    One that is pending already is used again, so that a client which asks over and over, or comes
    back after a restart, stays at the URL that its user has open.
    """
    own = _of_machine(snapshot, candidate.machine_key)
    for login in own:
        if login.node_key == candidate.node_key and now < login.expires:
            return (), login
    login = PendingLogin(
        id=login_id,
        machine_key=candidate.machine_key,
        node_key=candidate.node_key,
        old_node_key=candidate.old_node_key,
        hostinfo=candidate.hostinfo.raw,
        ephemeral=candidate.ephemeral,
        capability_version=candidate.capability_version,
        created=now,
        expires=now + LIFE,
    )
    return [*_room(snapshot, own), Put(login)], login


def approve(login_id: LoginId, approval: Approval) -> Decision[Node]:
    """Let the machine in that waits at the login.

    Without `Approval.tags`, tags that the machine asked for are given if its user may give all of
    them; if not, the approval is refused as a whole.

    Raises (when carried out):
        NotFound: no such login or user.
        Conflict: it was decided already, or its node key is in use elsewhere by now.
        Forbidden: the user is suspended or may not give the tags.
        Invalid: tags that are not declared, or neither user nor tags.
    """

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[Node]:
        login = _pending(snapshot, login_id, now)
        hostinfo = decode_hostinfo(login.hostinfo)
        candidate = Candidate(
            machine_key=login.machine_key,
            node_key=login.node_key,
            old_node_key=login.old_node_key,
            hostinfo=hostinfo,
            ephemeral=login.ephemeral,
            capability_version=login.capability_version,
            stable_id=approval.stable_id,
        )
        owner = _owner(snapshot, approval, hostinfo.request_tags)
        grant = Grant(owner, preauthorized=approval.preauthorized)
        node, writes = admit(snapshot, candidate, grant, now)
        decided = replace(login, state=LoginState.APPROVED, node=node.id)
        return outcome(snapshot, [*writes, Put(decided)], node)

    return decide


def reject(login_id: LoginId) -> Decision[PendingLogin]:
    """Turn the machine away that waits at the login; it is told so until the login expires."""

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[PendingLogin]:
        login = replace(_pending(snapshot, login_id, now), state=LoginState.REJECTED)
        return outcome(snapshot, [Put(login)], login)

    return decide


def waiting(snapshot: Snapshot, now: datetime) -> list[PendingLogin]:
    """Return what awaits a person, oldest first."""
    pending = (login for login in snapshot.logins.values() if login.state is LoginState.PENDING)
    return sorted((login for login in pending if now < login.expires), key=_age)


def expired(snapshot: Snapshot, now: datetime) -> list[PendingLogin]:
    """Return what nobody needs any more."""
    return [login for login in snapshot.logins.values() if login.expires <= now]


def _owner(snapshot: Snapshot, approval: Approval, requested: Iterable[str]) -> Owner:
    if approval.tags:
        if approval.user is not None:
            raise Invalid("a node belongs to a user or to tags, not to both")
        return Owner(tags=declared_tags(snapshot, approval.tags))
    if approval.user is None:
        raise Invalid("a user or tags must own the node")
    user = check_active(lookup.user_by_login(snapshot, approval.user))
    tags = check_tags(snapshot, user, requested)
    return Owner(tags=tags) if tags else Owner(user=user.id)


def _pending(snapshot: Snapshot, login_id: LoginId, now: datetime) -> PendingLogin:
    login = snapshot.logins.get(login_id)
    if login is None or login.expires <= now:
        raise NotFound(
            "no such login, or it has expired",
            help="the device shows a new address when it retries",
        )
    if login.state is not LoginState.PENDING:
        raise Conflict(f"this login was {login.state} already")
    return login


def _room(snapshot: Snapshot, own: Sequence[PendingLogin]) -> list[Write]:
    """Return the drops that make room for one more: the machine's own oldest, or anybody's.

    A snapshot keeps logins in the order in which they began, so the first is the oldest. Only among
    those that were there before a restart the order is another one, and they all are old.
    """
    if len(own) >= MAX_PER_MACHINE:
        return [Drop(own[0])]
    if len(snapshot.logins) < MAX_LOGINS:
        return []
    everyone = snapshot.logins.values()
    pending = (login for login in everyone if login.state is LoginState.PENDING)
    return [Drop(next(pending, None) or next(iter(everyone)))]


def _of_machine(snapshot: Snapshot, machine: MachineKey) -> list[PendingLogin]:
    """Return what this machine waits at, oldest first."""
    found = (snapshot.logins[login] for login in snapshot.asking.get(machine, ()))
    return [login for login in found if login.state is LoginState.PENDING]


def _age(login: PendingLogin) -> tuple[datetime, LoginId]:
    return login.created, login.id
