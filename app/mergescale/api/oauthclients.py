"""OAuth clients: programs that get tokens for a part of the API; ``keys`` has the paths."""

from __future__ import annotations

from datetime import datetime

from msgspec import UNSET, UnsetType

from mergescale.api.callers import Authenticated
from mergescale.api.key import CreateKey, Key, known
from mergescale.domain.apikey import ApiKey
from mergescale.identity.secrets import MINT_BYTES, Kind, mint
from mergescale.kernel.errors import Invalid
from mergescale.kernel.ids import ApiKeyId
from mergescale.state import apikeys


async def create(caller: Authenticated, data: CreateKey) -> Key:
    """Make a client of the caller's tailnet; the only answer with its secret.

    Raises:
        Invalid: it asks for what only another kind of key has, or for no scope.
    """
    create = data.capabilities.devices.create
    if any((create.reusable, create.ephemeral, create.preauthorized, create.tags, data.user)):
        raise Invalid("an OAuth client has no capabilities and no user")
    if data.tags:
        raise Invalid("an OAuth client has no tags: none of the scopes here needs any")
    if data.expiry_seconds:
        raise Invalid("an OAuth client does not expire; revoke it")
    minted = mint(Kind.CLIENT, caller.draw(MINT_BYTES))
    decide = apikeys.create(
        ApiKeyId(minted.id),
        minted.secret_hash,
        data.description,
        None,
        client_scopes=tuple(sorted(set(data.scopes or ()))),
    )
    return render(await caller.engine.apply(decide), caller.now(), text=minted.text)


def listed(caller: Authenticated) -> list[Key]:
    """Return all that are kept."""
    found = apikeys.listed(caller.snapshot)
    return [render(key, caller.now()) for key in found if key.is_client]


def find(caller: Authenticated, key_id: str) -> Key | None:
    """Return one, if it is one of these."""
    key = caller.snapshot.api_keys.get(ApiKeyId(key_id))
    return None if key is None or not key.is_client else render(key, caller.now())


async def revoke(caller: Authenticated, key_id: str) -> None:
    """Let one have no more tokens, and those that it has open nothing."""
    await caller.engine.apply(apikeys.revoke(ApiKeyId(key_id)))


def render(key: ApiKey, now: datetime, *, text: str | UnsetType = UNSET) -> Key:
    """Return the client as it is told, with its secret if this is the answer that made it."""
    return Key(
        id=key.id,
        key_type="client",
        key=text,
        prefix=f"mskey-{Kind.CLIENT}-{key.id}",
        description=key.description,
        created=key.created,
        updated=key.revoked or key.created,
        revoked=known(key.revoked),
        invalid=not key.usable(now),
        last_used=known(key.last_used),
        scopes=list(key.client_scopes or ()),
    )
