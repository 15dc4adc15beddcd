"""Logins over SSH that need a check: who may ask, what a person approved, and for how long.

The destination asks, because it is the one that lets in or does not. What was approved counts for
one source node under one owner, one destination and one local user, for as long as the policy's
``checkPeriod`` says now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from mergescale.domain.access import SshRule
from mergescale.domain.login import LoginState
from mergescale.domain.node import Node
from mergescale.domain.record import Drop, Put, Write
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.sshcheck import SshCheck
from mergescale.kernel.errors import Conflict, NotFound
from mergescale.kernel.ids import LoginId, NodeId, UserId
from mergescale.kernel.keys import MachineKey
from mergescale.state.outcome import Decision, Outcome, outcome

#: LIMIT: as long as a client waits for an answer in all (spec 5.2).
LIFE: Final = timedelta(minutes=30)
#: LIMIT: the longest ``checkPeriod`` that a policy may have; then nothing asks for it any more.
REMEMBERED: Final = timedelta(hours=168)
#: LIMIT: pending checks of one tailnet.
MAX_CHECKS: Final = 1024
#: LIMIT: pending checks at one destination, so that it cannot drive out those of others.
MAX_PER_TARGET: Final = 32


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a destination asks.

    Attributes:
        machine: whose connection it is.
        local_user: as whom the source would be let in.
        check: the one that it was told to wait at, None in the first request.
        fresh: unguessable id for a new check.
    """

    machine: MachineKey
    source: NodeId
    target: NodeId
    local_user: str
    check: LoginId | None
    fresh: LoginId


@dataclass(frozen=True, slots=True)
class Accepted:
    """Somebody approved it; `rule` says what goes with it."""

    rule: SshRule


@dataclass(frozen=True, slots=True)
class Refused:
    """Nobody may approve it, or somebody rejected it; `why` is shown to the user."""

    why: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A person has to decide."""

    check: SshCheck


Answer = Accepted | Refused | Waiting

_NO_RULE: Final = Refused("the policy does not let this device in after a check")
_REJECTED: Final = Refused("the login was rejected")
_NOT_A_PERSON: Final = Refused("only devices of people can be checked")


def ask(attempt: Attempt) -> Decision[Answer]:
    """Say whether the source may be let in, or at which check it waits.

    Raises (when carried out):
        NotFound: the machine has no such destination.
    """

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[Answer]:
        answer, writes = _answer(snapshot, attempt, now)
        return outcome(snapshot, writes, answer)

    return decide


def begins(attempt: Attempt) -> Decision[bool]:
    """Say whether `ask` would begin a check."""

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[bool]:
        answer, _ = _answer(snapshot, attempt, now)
        new = isinstance(answer, Waiting) and answer.check.id not in snapshot.ssh_checks
        return outcome(snapshot, (), new)

    return decide


def approve(check_id: LoginId) -> Decision[SshCheck]:
    """Let the source in.

    Raises (when carried out):
        NotFound: no such check, or it has expired.
        Conflict: it was decided already.
    """
    return _decide(check_id, LoginState.APPROVED, REMEMBERED)


def reject(check_id: LoginId) -> Decision[SshCheck]:
    """Turn the source away; raises what `approve` does."""
    return _decide(check_id, LoginState.REJECTED, LIFE)


def waiting(snapshot: Snapshot, now: datetime) -> list[SshCheck]:
    """Return what awaits a person, oldest first."""
    found = [
        one
        for one in snapshot.ssh_checks.values()
        if one.state is LoginState.PENDING and now < one.expires
    ]
    return sorted(found, key=lambda one: (one.created, one.id))


def expired(snapshot: Snapshot, now: datetime) -> list[SshCheck]:
    """Return what nobody needs any more."""
    return [one for one in snapshot.ssh_checks.values() if one.expires <= now]


def _decide(check_id: LoginId, state: LoginState, kept: timedelta) -> Decision[SshCheck]:
    def decide(snapshot: Snapshot, now: datetime) -> Outcome[SshCheck]:
        check = snapshot.ssh_checks.get(check_id)
        if check is None or check.expires <= now:
            raise NotFound(
                "no such check, or it has expired", help="connect again for another address"
            )
        if check.state is not LoginState.PENDING:
            raise Conflict(f"this check was {check.state} already")
        decided = replace(check, state=state, decided=now, expires=now + kept)
        return outcome(snapshot, [Put(decided)], decided)

    return decide


def _answer(snapshot: Snapshot, attempt: Attempt, now: datetime) -> tuple[Answer, Sequence[Write]]:
    target, source = snapshot.nodes.get(attempt.target), snapshot.nodes.get(attempt.source)
    # INVARIANT(machine owns node): who asks is the destination; node ids are public.
    if target is None or target.machine_key != attempt.machine:
        raise NotFound("node not found")
    if source is None:
        return _NO_RULE, ()
    if source.user is None:
        return _NOT_A_PERSON, ()
    rule = _rule(snapshot, attempt, source)
    if rule is None or rule.check_period is None:
        return _NO_RULE, ()
    return _checked(snapshot, attempt, source.user, rule, rule.check_period, now)


def _rule(snapshot: Snapshot, attempt: Attempt, source: Node) -> SshRule | None:
    """Return the rule that asks for the check; of several, the one that asks most often."""
    address = str(source.ipv4)
    found = [
        rule
        for rule in snapshot.access.ssh_rules(snapshot.slot(attempt.target))
        if rule.check_period is not None
        and address in rule.principals
        and _leads_to(rule, attempt.local_user)
    ]
    return min(found, key=lambda rule: rule.check_period or timedelta(0), default=None)


def _leads_to(rule: SshRule, local_user: str) -> bool:
    return any(
        local == local_user or (local == "=" and local_user != "root") for _, local in rule.logins
    )


def _checked(
    snapshot: Snapshot,
    attempt: Attempt,
    user: UserId,
    rule: SshRule,
    period: timedelta,
    now: datetime,
) -> tuple[Answer, Sequence[Write]]:
    about = attempt.source, user, attempt.target, attempt.local_user
    known = [
        one
        for one in snapshot.ssh_checks.values()
        if (one.source, one.user, one.target, one.local_user) == about and now < one.expires
    ]
    approved = [one for one in known if one.state is LoginState.APPROVED and one.decided]
    if any(one.decided and now < one.decided + period for one in approved):
        return Accepted(rule), ()
    own = next((one for one in known if one.id == attempt.check), None)
    match own:
        case SshCheck(state=LoginState.APPROVED, decided=decided) if decided is not None:
            # Asked for each time: it counts for the one login that waited for it.
            if not period and now < decided + LIFE:
                return Accepted(rule), (Drop(own),)
        case SshCheck(state=LoginState.REJECTED):
            return _REJECTED, ()
        case _:
            pass
    pending = next((one for one in known if one.state is LoginState.PENDING), None)
    if pending is not None:
        return Waiting(pending), ()
    check = SshCheck(attempt.fresh, *about, created=now, expires=now + LIFE)
    return Waiting(check), (*_room(snapshot, attempt.target), Put(check))


def _room(snapshot: Snapshot, target: NodeId) -> list[Write]:
    """Return the drop that makes room for one more: the destination's own oldest, or anybody's."""
    pending = [one for one in snapshot.ssh_checks.values() if one.state is LoginState.PENDING]
    own = [one for one in pending if one.target == target]
    full = own if len(own) >= MAX_PER_TARGET else pending if len(pending) >= MAX_CHECKS else []
    return [Drop(min(full, key=lambda one: (one.created, one.id)))] if full else []
