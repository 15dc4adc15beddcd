"""What operators do about the watched repository: look back, go back, hold still, go on."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Final

import msgspec
from litestar import delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery, JSONBody, QueryParameter

from mergescale.api.callers import Caller
from mergescale.api.watched import ACTS, LOOKS, PATH, Commit, Reason, newest_of, repository_of
from mergescale.plan.redaction import Redaction, redacted

#: LIMIT: a year; what is to last longer is meant for good.
_Seconds = Annotated[int, msgspec.Meta(ge=0, le=31_536_000)]
#: LIMIT: `gitops.operators.overriding.LONGEST`, which layers keep apart.
_LONGEST_S: Final = 604_800


class Suspend(msgspec.Struct, frozen=True):
    """Why nothing is to come into force by itself; 0 seconds for until somebody resumes."""

    reason: Reason
    expirySeconds: _Seconds = 0  # noqa: N815 - as for keys


class Rollback(msgspec.Struct, frozen=True):
    """What is to be in force again, and why; seven digits of the commit are enough."""

    commit: Commit
    reason: Reason


class Pin(msgspec.Struct, frozen=True):
    """Which commit is to be in force and stay, and why; seven digits of it are enough."""

    commit: Commit
    reason: Reason


class Override(msgspec.Struct, frozen=True):
    """A policy in place of the repository's, why, and for how long; all three are required."""

    policy: Annotated[str, msgspec.Meta(max_length=1 << 20)]
    reason: Reason
    expirySeconds: Annotated[int, msgspec.Meta(ge=1, le=_LONGEST_S)]  # noqa: N815 - as for keys


class Accept(msgspec.Struct, frozen=True):
    """Which commit may come into force although it rewrites the history or is skipped."""

    commit: Commit


@get(f"{PATH}/history", **LOOKS)
async def history(
    caller: Caller, limit: Annotated[int, QueryParameter(ge=1, le=200)] = 50
) -> dict[str, Any]:
    """List the commits that were in force, newest first; a rolled back one is there again."""
    return {"deployments": await repository_of(caller).steering.history(limit)}


@get(f"{PATH}/diff", **LOOKS)
async def diff(
    caller: Caller,
    base: FromQuery[str],
    head: FromQuery[str],
    redact: FromQuery[Redaction] = Redaction.FULL,
) -> Any:
    """Plan between two commits that were in force, over the devices there are now.

    `redact=names` leaves out all addresses, `redact=counts` all names too.
    """
    return redacted(await repository_of(caller).steering.diff(base, head), redact)


@get(f"{PATH}/plan", **LOOKS)
async def plan(caller: Caller, redact: FromQuery[Redaction] = Redaction.FULL) -> dict[str, Any]:
    """Plan from what is in force to the branch's newest commit; null if that is in force.

    It is what resuming would do. The branch is looked at for it, and nothing changes. `redact` as
    for `diff`.
    """
    found = await repository_of(caller).steering.next_plan()
    return {"plan": None if found is None else redacted(found, redact)}


@get(f"{PATH}/contains", **LOOKS)
async def contains(caller: Caller, commit: FromQuery[str]) -> dict[str, Any]:
    """Say which newest commit of the branch brings this one; the repository is looked at for it.

    For whoever waits for a commit that newer ones may have overtaken.
    """
    return {"newest": await repository_of(caller).steering.newest_with(commit)}


@post(f"{PATH}/suspend", **ACTS)
async def suspend(caller: Caller, data: JSONBody[Suspend]) -> dict[str, Any]:
    """Let no commit come into force by itself, at any replica and across restarts.

    For as long as the body says, and then the newest one does without being asked for.
    """
    repository = repository_of(caller)
    lasting = timedelta(seconds=data.expirySeconds) if data.expirySeconds else None
    by = caller.principal.name
    await repository.steering.suspend(reason=data.reason, by=by, lasting=lasting)
    return dict(repository.status())


@post(f"{PATH}/resume", **ACTS)
async def resume(caller: Caller) -> dict[str, Any]:
    """Follow the branch again; answers with the status after a look at it."""
    repository = repository_of(caller)
    await repository.steering.resume(by=caller.principal.name)
    await repository.sync()
    return dict(repository.status())


@post(f"{PATH}/rollback", **ACTS)
async def rollback(caller: Caller, data: JSONBody[Rollback]) -> dict[str, Any]:
    """Put a commit of the history in force, suspend, and skip the one that it replaces.

    The remote is not asked. The answer has the `git revert` that makes the branch say the same.
    """
    repository = repository_of(caller)
    by = caller.principal.name
    done = await repository.steering.rollback(data.commit, reason=data.reason, by=by)
    return {**done.as_json(), "status": dict(repository.status())}


@post(f"{PATH}/pin", **ACTS)
async def pin(caller: Caller, data: JSONBody[Pin]) -> dict[str, Any]:
    """Put a commit that was in force, or of the branch, in force, and keep it until resumed."""
    repository = repository_of(caller)
    await repository.steering.pin(data.commit, reason=data.reason, by=caller.principal.name)
    return dict(repository.status())


@post(f"{PATH}/override", **ACTS)
async def override(caller: Caller, data: JSONBody[Override]) -> dict[str, Any]:
    """Put a policy in force that is in no commit, in an emergency and for a while.

    It is checked and tested as a commit is; one with a problem is refused with its line and column.
    What the repository said before comes back by itself.
    """
    repository = repository_of(caller)
    lasting, by = timedelta(seconds=data.expirySeconds), caller.principal.name
    overrides = repository.steering.overrides
    await overrides.put(data.policy, reason=data.reason, by=by, lasting=lasting)
    return dict(repository.status())


@delete(f"{PATH}/override", **ACTS)
async def end_override(caller: Caller) -> dict[str, Any]:
    """Put back now what the repository said before; answers with the status after a look at it."""
    repository = repository_of(caller)
    await repository.steering.overrides.end(by=caller.principal.name)
    await repository.sync()
    return dict(repository.status())


@post(f"{PATH}/accept", **ACTS)
async def accept(caller: Caller, data: JSONBody[Accept]) -> dict[str, Any]:
    """Let this one commit come into force; answers with the status after a look at the branch."""
    repository = repository_of(caller)
    newest = newest_of(repository)
    await repository.steering.accept(data.commit, by=caller.principal.name, newest=newest)
    await repository.sync()
    return dict(repository.status())


HANDLERS: Final[list[HTTPRouteHandler]] = [
    history,
    diff,
    plan,
    contains,
    suspend,
    resume,
    rollback,
    pin,
    override,
    end_override,
    accept,
]
