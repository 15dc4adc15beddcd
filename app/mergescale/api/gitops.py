"""The watched repository of a tailnet. An extension in the style of the rest."""

from __future__ import annotations

from typing import Any, Final

from litestar import get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery

from mergescale.api.callers import Caller
from mergescale.api.watched import ASKS, LOOKS, PATH, repository_of


@get(PATH, **LOOKS, sync_to_thread=False)
def get_status(caller: Caller) -> dict[str, Any]:
    """Show which commit is in force, which was seen last, and what is wrong with it."""
    return dict(repository_of(caller).status())


@post(f"{PATH}/sync", **ASKS)
async def sync(
    caller: Caller,
    retry: FromQuery[bool] = False,  # noqa: FBT002 - a query's parameter
) -> dict[str, Any]:
    """Look at the repository now; answers with the status after that, good or bad.

    With `retry` a commit that the compiler did not survive is tried again.
    """
    repository = repository_of(caller)
    await repository.sync(retry=retry)
    return dict(repository.status())


HANDLERS: Final[list[HTTPRouteHandler]] = [get_status, sync]
