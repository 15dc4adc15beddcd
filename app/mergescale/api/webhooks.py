"""The webhook of the watched repository: where forges send to, and the secrets they sign with."""

from __future__ import annotations

from typing import Any, Final

from litestar import delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from mergescale.api.callers import Authenticated, Caller
from mergescale.api.openapi import Nothing
from mergescale.api.outside import Webhooks
from mergescale.api.watched import ACTS, LOOKS, PATH, of_repository

_PATH: Final = f"{PATH}/webhooks"


@get(_PATH, **LOOKS)
async def list_webhooks(caller: Caller) -> dict[str, Any]:
    """Tell the address that forges send pushes to, and what secrets they may sign them with.

    A delivery has the repository looked at at once. The secrets themselves are not told.
    """
    webhook = _webhook_of(caller)
    return {"url": webhook.url, "secrets": await webhook.told()}


@post(_PATH, **ACTS)
async def add_webhook(caller: Caller) -> dict[str, Any]:
    """Make a secret, told this once; those that there are stay good until they are dropped."""
    webhook = _webhook_of(caller)
    made = await webhook.add(by=caller.principal.name)
    return {"id": made.id, "url": webhook.url, "secret": made.secret}


@delete(f"{_PATH}/{{secret_id:str}}", **ACTS)
async def drop_webhook(caller: Caller, secret_id: FromPath[str]) -> Nothing:
    """Forget a secret; what is signed with it is refused, at other replicas seconds later."""
    await _webhook_of(caller).drop(secret_id, by=caller.principal.name)
    return Nothing()


HANDLERS: Final[list[HTTPRouteHandler]] = [list_webhooks, add_webhook, drop_webhook]


def _webhook_of(caller: Authenticated) -> Webhooks:
    return of_repository(caller, caller.backend.webhooks)
