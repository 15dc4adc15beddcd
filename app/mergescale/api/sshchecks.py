"""SSH checks: logins over SSH that wait for a person. An extension in the style of the rest."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from litestar import get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from msgspec import UNSET, Struct, UnsetType

from mergescale.api.callers import Authenticated, Caller
from mergescale.api.openapi import ERRORS
from mergescale.domain.login import Standing, standing
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.sshcheck import SshCheck
from mergescale.kernel.errors import NotFound
from mergescale.kernel.ids import LoginId
from mergescale.state import sshchecks


class Check(Struct, frozen=True, kw_only=True, rename="camel"):
    """A login over SSH that needs an approval.

    Attributes:
        id: last part of the address that the user is shown.
        user: login of whoever owns the source.
        source, target: names of the devices, empty for one that is gone.
        local_user: as whom, at the target.
        decided: when somebody approved or rejected it.
    """

    id: str
    state: Standing
    user: str
    source: str
    target: str
    local_user: str
    created: datetime
    expires: datetime
    decided: datetime | UnsetType = UNSET


class Checks(Struct, frozen=True):
    """SSH checks of a tailnet, oldest first."""

    checks: list[Check]


@get("/tailnet/{tailnet:str}/ssh-checks", responses=ERRORS, tags=["SSH"], sync_to_thread=False)
def list_checks(caller: Caller) -> Checks:
    """List the logins over SSH that wait for somebody."""
    snapshot, now = caller.snapshot, caller.now()
    return Checks([_render(snapshot, one, now) for one in sshchecks.waiting(snapshot, now)])


@get("/ssh-checks/{check_id:str}", responses=ERRORS, tags=["SSH"], sync_to_thread=False)
def get_check(caller: Caller, check_id: FromPath[str]) -> Check:
    """Show one check, decided or not, until it is forgotten."""
    return _render(caller.snapshot, _check_of(caller, check_id), caller.now())


@post("/ssh-checks/{check_id:str}/approve", status_code=200, responses=ERRORS, tags=["SSH"])
async def approve_check(caller: Caller, check_id: FromPath[str]) -> Check:
    """Let the source in, now and for as long as the policy's checkPeriod says."""
    found = _check_of(caller, check_id)
    decided = await caller.engine.apply(sshchecks.approve(found.id))
    return _render(caller.snapshot, decided, caller.now())


@post("/ssh-checks/{check_id:str}/reject", status_code=200, responses=ERRORS, tags=["SSH"])
async def reject_check(caller: Caller, check_id: FromPath[str]) -> Check:
    """Turn the source away."""
    found = _check_of(caller, check_id)
    decided = await caller.engine.apply(sshchecks.reject(found.id))
    return _render(caller.snapshot, decided, caller.now())


HANDLERS: Final[list[HTTPRouteHandler]] = [list_checks, get_check, approve_check, reject_check]


def _check_of(caller: Authenticated, check_id: str) -> SshCheck:
    found = caller.snapshot.ssh_checks.get(LoginId(check_id))
    if found is None:
        raise NotFound("no such check, or it has expired", help="connect again for another address")
    return found


def _render(snapshot: Snapshot, check: SshCheck, now: datetime) -> Check:
    user = snapshot.users.get(check.user)
    source, target = (snapshot.nodes.get(one) for one in (check.source, check.target))
    return Check(
        id=check.id,
        state=standing(check.state, check.expires, now),
        user="" if user is None else user.login,
        source="" if source is None else source.name,
        target="" if target is None else target.name,
        local_user=check.local_user,
        created=check.created,
        expires=check.expires,
        decided=UNSET if check.decided is None else check.decided,
    )
