"""Keys: what Tailscale's API calls pre-auth keys, API tokens and OAuth clients.

One resource with a ``keyType``, as the hosted service has: ``auth``, ``api`` and ``client``. What each
is made of is in ``authkeys`` and ``apikeys``.
"""

from __future__ import annotations

from typing import Annotated, Final, Protocol

from litestar import delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import Struct

from mergescale.api import apikeys, authkeys
from mergescale.api.callers import Authenticated, Caller
from mergescale.api.key import CreateKey, Key, KeyType
from mergescale.api.openapi import ERRORS, Nothing
from mergescale.kernel.errors import NotFound

_ONE: Final = "/tailnet/{tailnet:str}/keys/{key_id:str}"


class _Kind(Protocol):
    """What each of the modules does."""

    def listed(self, caller: Authenticated) -> list[Key]: ...

    def find(self, caller: Authenticated, key_id: str) -> Key | None: ...

    async def revoke(self, caller: Authenticated, key_id: str) -> None: ...


_KINDS: Final[tuple[_Kind, ...]] = (authkeys, apikeys)


class Keys(Struct, frozen=True):
    """Keys of a tailnet, oldest first."""

    keys: list[Key]


@get("/tailnet/{tailnet:str}/keys", responses=ERRORS, tags=["Keys"], sync_to_thread=False)
def list_keys(
    caller: Caller,
    ended: Annotated[bool, QueryParameter(name="all")] = False,  # noqa: FBT002 - a query's parameter
    key_type: Annotated[KeyType | None, QueryParameter(name="keyType")] = None,
) -> Keys:
    """List the keys that are still good; with `all=true` also those that ended of late.

    `keyType` narrows it to one kind; an extension.
    """
    found = [one for kind in _KINDS for one in kind.listed(caller)]
    wanted = [
        key
        for key in found
        if (ended or not key.invalid) and (key_type is None or key.key_type == key_type)
    ]
    return Keys(sorted(wanted, key=lambda key: (key.created, key.id)))


@post("/tailnet/{tailnet:str}/keys", status_code=200, responses=ERRORS, tags=["Keys"])
async def create_key(caller: Caller, data: JSONBody[CreateKey]) -> Key:
    """Make a key; this answer alone has its text.

    A pre-auth key without tags makes devices of `user` (an extension: the hosted service takes
    whoever made the token), one with tags makes tagged devices. An OAuth client has `scopes`;
    its `id` and `key` are what it shows to `/api/v2/oauth/token`.
    """
    match data.key_type:
        case "api":
            return await apikeys.create(caller, data)
        case "client":
            return await apikeys.create_client(caller, data)
        case "auth":
            return await authkeys.create(caller, data)


@get(_ONE, responses=ERRORS, tags=["Keys"], sync_to_thread=False)
def get_key(caller: Caller, key_id: FromPath[str]) -> Key:
    """Show one key, without its text."""
    for kind in _KINDS:
        if (found := kind.find(caller, key_id)) is not None:
            return found
    raise NotFound("no such key")


@delete(_ONE, status_code=200, responses=ERRORS, tags=["Keys"])
async def delete_key(caller: Caller, key_id: FromPath[str]) -> Nothing:
    """Revoke a key. It stays listed with `all=true` for a week; devices it admitted stay."""
    for kind in _KINDS:
        if kind.find(caller, key_id) is not None:
            await kind.revoke(caller, key_id)
            return Nothing()
    raise NotFound("no such key")


HANDLERS: Final[list[HTTPRouteHandler]] = [list_keys, create_key, get_key, delete_key]
