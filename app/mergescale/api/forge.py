"""The forge of the watched repository: open pull requests, and what opens the forge's API."""

from __future__ import annotations

from typing import Any, Final

from litestar import delete, get, put
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from mergescale.api.callers import Authenticated, Caller
from mergescale.api.openapi import Nothing
from mergescale.api.outside import ForgeDesk
from mergescale.api.watched import ACTS, LOOKS, PATH
from mergescale.kernel.errors import NotFound


@get(f"{PATH}/pulls", **LOOKS)
async def list_pulls(caller: Caller) -> dict[str, Any]:
    """List the open pull requests, and what merging each of them would do.

    A stale plan is one of yesterday's branch, devices or people; it is made again soon.
    """
    return {"pulls": await _forge_of(caller).pulls()}


@get(f"{PATH}/forge", **LOOKS)
async def show_forge(caller: Caller) -> dict[str, Any]:
    """Tell which forge is told, whether there is a token for it, how much waits to be told, and why."""
    return await _forge_of(caller).told()


@put(f"{PATH}/forge/token", **ACTS)
async def set_token(caller: Caller, data: JSONBody[dict[str, Any]]) -> Nothing:
    """Keep what opens the forge's API: ``token``, or ``appId``, ``installationId``, ``privateKey``.

    With a ``kind``: ``token`` or ``github-app``. It is sealed, sent to the configured API only, and
    never told again.
    """
    await _forge_of(caller).give(data, by=caller.principal.name)
    return Nothing()


@delete(f"{PATH}/forge/token", **ACTS)
async def drop_token(caller: Caller) -> Nothing:
    """Forget what opens the forge's API; nothing is told to it any more."""
    await _forge_of(caller).take(by=caller.principal.name)
    return Nothing()


HANDLERS: Final[list[HTTPRouteHandler]] = [list_pulls, show_forge, set_token, drop_token]


def _forge_of(caller: Authenticated) -> ForgeDesk:
    forge = caller.backend.forges.get(caller.snapshot.tailnet)
    if forge is None:
        help_ = "set forge.kind of its repository; see the README"
        raise NotFound("the repository of this tailnet has no forge", help=help_)
    return forge
