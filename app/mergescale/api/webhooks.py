"""The webhook of the watched repository: where forges send to, and the secrets they sign with."""

from __future__ import annotations

from typing import Any, Final

from litestar import delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from mergescale.api.callers import Authenticated, Caller, needs
from mergescale.api.openapi import ERRORS, Nothing
from mergescale.api.outside import Webhooks
from mergescale.domain.scopes import Scope
from mergescale.kernel.errors import NotFound

_PATH: Final = "/tailnet/{tailnet:str}/gitops/webhooks"


@get(_PATH, responses=ERRORS, tags=["GitOps"], opt=needs(Scope.POLICY_READ))
async def list_webhooks(caller: Caller) -> dict[str, Any]:
    """Tell the address that forges send pushes to, and what secrets they may sign them with.

    A delivery has the repository looked at at once. The secrets themselves are not told.
    """
    webhook = _webhook_of(caller)
    return {"url": webhook.url, "secrets": await webhook.told()}


@post(_PATH, status_code=200, responses=ERRORS, tags=["GitOps"], opt=needs(Scope.POLICY))
async def add_webhook(caller: Caller) -> dict[str, Any]:
    """Make a secret, told this once; those that there are stay good until they are dropped."""
    webhook = _webhook_of(caller)
    made = await webhook.add(by=caller.principal.name)
    return {"id": made.id, "url": webhook.url, "secret": made.secret}


@delete(
    f"{_PATH}/{{secret_id:str}}",
    status_code=200,
    responses=ERRORS,
    tags=["GitOps"],
    opt=needs(Scope.POLICY),
)
async def drop_webhook(caller: Caller, secret_id: FromPath[str]) -> Nothing:
    """Forget a secret; what is signed with it is refused, at other replicas seconds later."""
    await _webhook_of(caller).drop(secret_id, by=caller.principal.name)
    return Nothing()


HANDLERS: Final[list[HTTPRouteHandler]] = [list_webhooks, add_webhook, drop_webhook]


def _webhook_of(caller: Authenticated) -> Webhooks:
    webhook = caller.backend.webhooks.get(caller.snapshot.tailnet)
    if webhook is None:
        raise NotFound("this tailnet follows no repository", help="set MERGESCALE_REPOSITORY")
    return webhook
