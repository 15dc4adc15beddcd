"""How each part of the server is, for ``/health``, and the repository as the API sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mergescale.api.health import Check, Checked, Health
from mergescale.gitops.status import ConditionName
from mergescale.gitops.watch import Watcher
from mergescale.relay.stun import StunServer
from mergescale.server.system import SystemClock
from mergescale.server.tailnet import Parts
from mergescale.state.engine import Engine, EngineStopped
from mergescale.state.outcome import outcome
from mergescale.state.ports import StoreUnavailable
from mergescale.store.database import Database


@dataclass(frozen=True, slots=True)
class Followed:
    """A watched repository; `api.callers.Repository`."""

    watcher: Watcher

    def status(self) -> Mapping[str, Any]:
        """Return where following it stands, ready for JSON."""
        return self.watcher.status.as_json()

    async def sync(self) -> None:
        """Look at it now, and judge its newest commit again even if it has not moved."""
        await self.watcher.sync(retry=True)


def health_checks(
    database: Database, clock: SystemClock, parts: Sequence[Parts], stun: StunServer | None = None
) -> Mapping[str, Check]:
    """Return the checks of ``/health``: database, clock, STUN, each tailnet's engine and repository.

    A clock that stepped is a warning: the server goes on by its own time. A repository that cannot be followed is a warning: the last good commit stays in force, and
    a load balancer that took the server out for it would make things worse.
    """

    async def check_database() -> Checked:
        try:
            await database.ping()
        except StoreUnavailable as error:
            return Checked(Health.FAIL, error.message)
        return Checked(Health.PASS)

    async def check_clock() -> Checked:
        doubt = clock.doubt()
        return Checked(Health.WARN, doubt) if doubt else Checked(Health.PASS)

    checks: dict[str, Check] = {"database": check_database, "clock": check_clock}
    if stun is not None:
        checks["stun"] = _stun_check(stun)
    for part in parts:
        checks[f"engine:{part.engine.snapshot.tailnet}"] = _engine_check(part.engine)
        if part.watcher is not None:
            name = f"repository:{part.engine.snapshot.tailnet}"
            checks[name] = _repository_check(part.watcher)
    return checks


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


def _repository_check(watcher: Watcher) -> Check:
    async def check() -> Checked:
        conditions = watcher.status.conditions
        for name in (ConditionName.FETCHED, ConditionName.APPLIED):
            if conditions[name].state is False:
                return Checked(Health.WARN, f"{name} is false: {conditions[name].reason}")
        return Checked(Health.PASS)

    return check
