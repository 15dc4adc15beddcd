"""How each part of the server is, for ``/health``, and the repository as the API sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from math import inf
from typing import Any, Final, Protocol

from mergescale.api.health import Check, Checked, Health
from mergescale.gitops.credentials.keeper import Keeper
from mergescale.gitops.operators.steering import Steering
from mergescale.gitops.status import WANTED, ConditionName
from mergescale.gitops.trying.proving import Proving
from mergescale.gitops.watch import Watcher
from mergescale.gitops.webhooks import Webhook
from mergescale.kernel.clock import Clock
from mergescale.relay.service import DerpService
from mergescale.relay.stun import StunServer
from mergescale.server.tailnet import Parts
from mergescale.state.engine import Engine, EngineStopped
from mergescale.state.follower import POLL_S, Follower
from mergescale.state.outcome import outcome
from mergescale.state.ports import StoreUnavailable
from mergescale.state.replica import Replica
from mergescale.store.database import Database

#: LIMIT: how old what is known of other processes' commits may be; some looks may fail.
STALE_S: Final = 5 * POLL_S
_HEALTHY_IF_TRUE: Final = frozenset(
    {ConditionName.FETCHED, ConditionName.VERIFIED, ConditionName.APPLIED}
)


@dataclass(frozen=True, slots=True)
class Followed:
    """A watched repository; `api.callers.Repository`."""

    watcher: Watcher
    steering: Steering
    webhook: Webhook
    credential: Keeper
    proving: Proving

    def status(self) -> Mapping[str, Any]:
        """Return where following it stands, ready for JSON."""
        return {**self.watcher.shown, "webhook": self.webhook.shown()}

    async def sync(self, *, retry: bool = False) -> None:
        """Look at it now, and judge its newest commit again even if it has not moved.

        Args:
            retry: also if it is in quarantine.
        """
        if retry:
            await self.proving.forgive()
        await self.watcher.sync(retry=True)


class DoubtingClock(Clock, Protocol):
    """A clock that says when it does not believe the system's."""

    def doubt(self) -> str:
        """Return why not, empty when it does."""
        ...


@dataclass(frozen=True, slots=True)
class Relaying:
    """The embedded relay, as far as its health goes.

    Attributes:
        listening: whether connections to its listener are accepted.
    """

    service: DerpService
    stun: StunServer
    listening: Callable[[], bool]


def health_checks(
    database: Database,
    clock: DoubtingClock,
    parts: Sequence[Parts],
    relaying: Relaying | None = None,
    follower: Follower | None = None,
) -> Mapping[str, Check]:
    """Return the checks of ``/health``: what all tailnets share, then engine and repository of each.

    Warnings leave the server in its load balancer, which would make things worse by taking it out:
    a clock that stepped, as the server goes on by its own time; a relay that does not take
    everybody; a repository that cannot be followed, as the last good commit stays in force. That it
    is suspended, pinned or overridden somebody wants: it is said, and warns nobody.

    Args:
        database: the one below all of it.
        clock: doubts the system's.
        parts: of each tailnet.
        relaying: None without a relay.
        follower: None where no other process uses the database; then there is no lease to lose.
    """
    checks: dict[str, Check] = {"database": _database_check(database), "clock": _clock_check(clock)}
    if follower is not None:
        checks["lease"] = _lease_check(parts[0].replica, clock)
        checks["following"] = _following_check(follower)
    if relaying is not None:
        checks["stun"] = _stun_check(relaying.stun)
        checks["relay"] = _relay_check(relaying)
    for part in parts:
        checks[f"engine:{part.engine.snapshot.tailnet}"] = _engine_check(part.engine)
        if part.watcher is not None:
            name = f"repository:{part.engine.snapshot.tailnet}"
            checks[name] = _repository_check(part.watcher)
    return checks


def _database_check(database: Database) -> Check:
    async def check() -> Checked:
        try:
            await database.ping()
        except StoreUnavailable as error:
            return Checked(Health.FAIL, error.message)
        return Checked(Health.PASS)

    return check


def _clock_check(clock: DoubtingClock) -> Check:
    async def check() -> Checked:
        doubt = clock.doubt()
        return Checked(Health.WARN, doubt) if doubt else Checked(Health.PASS)

    return check


def _lease_check(replica: Replica, clock: Clock) -> Check:
    async def check() -> Checked:
        """Tell who has the duties; without a beat for the length of a lease nobody can say."""
        silent_s = clock.monotonic() - replica.beaten_s
        if silent_s > replica.terms.lease_s:
            return Checked(Health.WARN, f"not renewed for {silent_s:.0f} s: it may be another's")
        since = replica.duties_since
        if since is None:
            return Checked(Health.PASS, "another process has the duties")
        at = since.astimezone(UTC).isoformat(timespec="seconds")
        return Checked(Health.PASS, f"this process has the duties since {at}")

    return check


def _following_check(follower: Follower) -> Check:
    async def check() -> Checked:
        age_s = asyncio.get_running_loop().time() - follower.looked_s
        if age_s == inf:
            return Checked(Health.WARN, "the journal was not read yet")
        told = f"the journal was read {age_s:.1f} s ago"
        return Checked(Health.WARN if age_s > STALE_S else Health.PASS, told)

    return check


def _engine_check(engine: Engine) -> Check:
    async def check() -> Checked:
        """Let it take a decision that changes nothing; one that hangs is told by the deadline."""
        try:
            await engine.apply(lambda snapshot, _: outcome(snapshot, (), None))
        except EngineStopped as error:
            return Checked(Health.FAIL, error.message)
        return Checked(Health.PASS)

    return check


def _stun_check(stun: StunServer) -> Check:
    async def check() -> Checked:
        if not stun.addresses:
            return Checked(Health.WARN, "nobody answers stun")
        return Checked(Health.PASS)

    return check


def _relay_check(relaying: Relaying) -> Check:
    async def check() -> Checked:
        service = relaying.service
        if not relaying.listening():
            return Checked(Health.WARN, "the relay takes no connections")
        if service.doors.pending >= service.limits.pending:
            return Checked(Health.WARN, "more connections to the relay than it can admit")
        return Checked(Health.PASS)

    return check


def _repository_check(watcher: Watcher) -> Check:
    async def check() -> Checked:
        shown = watcher.shown["conditions"]
        for one in shown:
            bad = one["name"] in _HEALTHY_IF_TRUE and one["state"] is False
            if bad and one["reason"] not in WANTED:
                return Checked(Health.WARN, f"{one['name']} is false: {one['reason']}")
        wanted = (one for one in shown if one["state"] is True and one["reason"] in WANTED)
        return Checked(Health.PASS, "; ".join(f"{one['name']}: {one['reason']}" for one in wanted))

    return check
