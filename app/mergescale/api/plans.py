"""Plans of what is proposed, and approvals of what gates or freeze windows hold back."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from litestar import post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from mergescale.api.callers import Caller, needs
from mergescale.api.openapi import ERRORS
from mergescale.api.steering import newest_of, repository_of
from mergescale.domain.scopes import Scope

_PATH: Final = "/tailnet/{tailnet:str}/gitops"


class Approve(msgspec.Struct, frozen=True):
    """Which commit may come into force whatever gates and freeze windows say, and why.

    Attributes:
        plan: hash of the plan that was looked at; then only while the commit does what that says.
    """

    commit: Annotated[str, msgspec.Meta(min_length=7, max_length=64, pattern="^[0-9a-f]*$")]
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    plan: Annotated[str, msgspec.Meta(max_length=64, pattern="^[0-9a-f]*$")] = ""


@post(
    f"{_PATH}/approve",
    status_code=200,
    responses=ERRORS,
    tags=["GitOps"],
    opt=needs(Scope.POLICY),
)
async def approve(caller: Caller, data: JSONBody[Approve]) -> dict[str, Any]:
    """Let this one commit pass; answers with the status after a look at the branch."""
    repository = repository_of(caller)
    await repository.steering.approving.approve(
        data.commit,
        reason=data.reason,
        by=caller.principal.name,
        newest=newest_of(repository),
        plan=data.plan,
    )
    await repository.sync()
    return dict(repository.status())


HANDLERS: Final[list[HTTPRouteHandler]] = [approve]
