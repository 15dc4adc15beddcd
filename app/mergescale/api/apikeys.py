"""API tokens; ``keys`` has the paths."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import UNSET, UnsetType

from mergescale.api.callers import Authenticated
from mergescale.api.key import CreateKey, Key, known, lifetime
from mergescale.domain.apikey import ApiKey
from mergescale.identity.secrets import MINT_BYTES, Kind, mint
from mergescale.kernel.errors import Invalid
from mergescale.kernel.ids import ApiKeyId
from mergescale.state import apikeys


async def create(caller: Authenticated, data: CreateKey) -> Key:
    """Make a token of the caller's tailnet; the only answer with its text.

    Raises:
        Invalid: it asks for what only a pre-auth key has.
    """
    create = data.capabilities.devices.create
    asked = (create.reusable, create.ephemeral, create.preauthorized, create.tags, data.user)
    if any(asked) or data.scopes or data.tags:
        raise Invalid("an API token has no capabilities and no user")
    minted = mint(Kind.API, caller.draw(MINT_BYTES))
    life = timedelta(seconds=data.expiry_seconds) or apikeys.DEFAULT_LIFE
    key_id = ApiKeyId(minted.id)
    decide = apikeys.create(key_id, minted.secret_hash, data.description, life)
    return render(await caller.engine.apply(decide), caller.now(), text=minted.text)


def listed(caller: Authenticated) -> list[Key]:
    """Return all that are kept."""
    found = apikeys.listed(caller.snapshot)
    return [render(key, caller.now()) for key in found if not key.is_client]


def find(caller: Authenticated, key_id: str) -> Key | None:
    """Return one, if it is one of these."""
    key = caller.snapshot.api_keys.get(ApiKeyId(key_id))
    return None if key is None or key.is_client else render(key, caller.now())


async def revoke(caller: Authenticated, key_id: str) -> None:
    """Let one open nothing any more; it may be the one that this request came with."""
    await caller.engine.apply(apikeys.revoke(ApiKeyId(key_id)))


def render(key: ApiKey, now: datetime, *, text: str | UnsetType = UNSET) -> Key:
    """Return the token as it is told, with its text if this is the answer that made it."""
    return Key(
        id=key.id,
        key_type="api",
        key=text,
        prefix=f"mskey-{Kind.API}-{key.id}",
        description=key.description,
        created=key.created,
        updated=key.revoked or key.created,
        expires=known(key.expires),
        expiry_seconds=lifetime(key.created, key.expires),
        revoked=known(key.revoked),
        invalid=not key.usable(now),
        last_used=known(key.last_used),
    )
