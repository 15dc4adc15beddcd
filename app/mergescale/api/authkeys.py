"""Pre-auth keys; ``keys`` has the paths."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import UNSET, UnsetType

from mergescale.api.callers import Authenticated
from mergescale.api.key import (
    Capabilities,
    Create,
    CreateKey,
    DeviceCapabilities,
    Key,
    known,
    lifetime,
)
from mergescale.domain.authkey import AuthKey
from mergescale.domain.snapshot import Snapshot
from mergescale.identity.secrets import MINT_BYTES, Kind, mint
from mergescale.kernel.ids import AuthKeyId
from mergescale.state import authkeys


async def create(caller: Authenticated, data: CreateKey) -> Key:
    """Make a key; the only answer with its text."""
    minted = mint(Kind.AUTH, caller.draw(MINT_BYTES))
    create = data.capabilities.devices.create
    wanted = authkeys.Wanted(
        user=data.user or None,
        tags=tuple(create.tags or ()),
        reusable=create.reusable,
        ephemeral=create.ephemeral,
        preauthorized=create.preauthorized,
        life=timedelta(seconds=data.expiry_seconds) or authkeys.DEFAULT_LIFE,
        description=data.description,
    )
    decide = authkeys.create(AuthKeyId(minted.id), minted.secret_hash, wanted)
    made = await caller.engine.apply(decide)
    return render(caller.snapshot, made, caller.now(), text=minted.text)


def listed(caller: Authenticated) -> list[Key]:
    """Return all that are kept."""
    snapshot, now = caller.snapshot, caller.now()
    return [render(snapshot, key, now) for key in authkeys.listed(snapshot)]


def find(caller: Authenticated, key_id: str) -> Key | None:
    """Return one, if it is one of these."""
    key = caller.snapshot.auth_keys.get(AuthKeyId(key_id))
    return None if key is None else render(caller.snapshot, key, caller.now())


async def revoke(caller: Authenticated, key_id: str) -> None:
    """Let one admit nobody any more."""
    await caller.engine.apply(authkeys.revoke(AuthKeyId(key_id)))


def render(
    snapshot: Snapshot, key: AuthKey, now: datetime, *, text: str | UnsetType = UNSET
) -> Key:
    """Return the key as it is told, with its text if this is the answer that made it."""
    owner = None if key.user is None else snapshot.users.get(key.user)
    create = Create(
        reusable=key.reusable,
        ephemeral=key.ephemeral,
        preauthorized=key.preauthorized,
        tags=list(key.tags),
    )
    return Key(
        id=key.id,
        key_type="auth",
        key=text,
        prefix=f"mskey-{Kind.AUTH}-{key.id}",
        description=key.description,
        created=key.created,
        updated=key.revoked or key.last_used or key.created,
        expires=key.expires,
        expiry_seconds=lifetime(key.created, key.expires),
        revoked=known(key.revoked),
        invalid=not key.usable(now),
        capabilities=Capabilities(DeviceCapabilities(create)),
        user_id=UNSET if owner is None else str(owner.id),
        user=UNSET if owner is None else owner.login,
        uses=key.uses,
        last_used=known(key.last_used),
    )
