"""API tokens and OAuth clients, which are kept alike; ``keys`` has the paths."""

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


async def create_client(caller: Authenticated, data: CreateKey) -> Key:
    """Make an OAuth client of the caller's tailnet; the only answer with its secret.

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
    return [render(key, caller.now()) for key in apikeys.listed(caller.snapshot)]


def find(caller: Authenticated, key_id: str) -> Key | None:
    """Return one, if it is one of these."""
    key = caller.snapshot.api_keys.get(ApiKeyId(key_id))
    return None if key is None else render(key, caller.now())


async def revoke(caller: Authenticated, key_id: str) -> None:
    """Let one open nothing any more, nor what it gave; this request may have come with it."""
    await caller.engine.apply(apikeys.revoke(ApiKeyId(key_id)))


def render(key: ApiKey, now: datetime, *, text: str | UnsetType = UNSET) -> Key:
    """Return the key as it is told, with its text if this is the answer that made it."""
    kind = Kind.CLIENT if key.is_client else Kind.API
    return Key(
        id=key.id,
        key_type="client" if key.is_client else "api",
        key=text,
        prefix=f"mskey-{kind}-{key.id}",
        description=key.description,
        created=key.created,
        updated=key.revoked or key.created,
        expires=known(key.expires),
        expiry_seconds=lifetime(key.created, key.expires),
        revoked=known(key.revoked),
        invalid=not key.usable(now),
        last_used=known(key.last_used),
        scopes=list(key.client_scopes or ()) if key.is_client else UNSET,
    )
