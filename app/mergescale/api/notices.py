"""Channels of notifications: which there are, their secrets, and trying one."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from litestar import get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody

from mergescale.api.callers import Authenticated, Caller
from mergescale.api.openapi import Nothing
from mergescale.api.outside import Channels
from mergescale.api.watched import ACTS, LOOKS, PATH, of_repository

_PATH: Final = f"{PATH}/notify"


class ChannelSecret(msgspec.Struct, frozen=True):
    """A channel's secret; null or nothing for one that the server makes (of webhooks)."""

    secret: Annotated[str, msgspec.Meta(max_length=4096)] | None = None


@get(_PATH, **LOOKS)
async def list_channels(caller: Caller) -> dict[str, Any]:
    """List who is told when something changes, as configured; secrets are not told."""
    return {"channels": await _channels_of(caller).told()}


@post(f"{_PATH}/{{channel:str}}/test", **ACTS)
async def try_channel(caller: Caller, channel: FromPath[str]) -> Nothing:
    """Send a test to a channel and wait for it; a 409 says why it did not get there."""
    await _channels_of(caller).try_out(channel)
    return Nothing()


@post(f"{_PATH}/{{channel:str}}/secret", **ACTS)
async def keep_channel_secret(
    caller: Caller, channel: FromPath[str], data: JSONBody[ChannelSecret]
) -> dict[str, Any]:
    """Keep a channel's secret in the place of the one before; one that is made is told this once.

    It is forgotten when the place that the channel sends to changes.
    """
    by = caller.principal.name
    made = await _channels_of(caller).keep_secret(channel, data.secret, by=by)
    return {"secret": made}


HANDLERS: Final[list[HTTPRouteHandler]] = [list_channels, try_channel, keep_channel_secret]


def _channels_of(caller: Authenticated) -> Channels:
    return of_repository(caller, caller.backend.channels)
