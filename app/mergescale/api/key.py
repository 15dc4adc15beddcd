"""The ``Key`` object of Tailscale's API, for pre-auth keys, API tokens and OAuth clients."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from mergescale.domain.scopes import Scope

KeyType = Literal["auth", "api", "client"]
#: LIMIT: no key lives longer; ``state`` has the exact bounds, this keeps the number a time span.
_LONGEST_S = 366 * 86_400


class Create(Struct, frozen=True):
    """What devices a pre-auth key makes.

    Attributes:
        tags: null, as Go writes an empty list, is none.
    """

    reusable: bool = False
    ephemeral: bool = False
    preauthorized: bool = False
    tags: list[str] | None = field(default_factory=list)


class DeviceCapabilities(Struct, frozen=True):
    """What a pre-auth key may do with devices."""

    create: Create = field(default_factory=Create)


class Capabilities(Struct, frozen=True):
    """What a pre-auth key may do."""

    devices: DeviceCapabilities = field(default_factory=DeviceCapabilities)


class CreateKey(Struct, frozen=True, rename="camel", kw_only=True):
    """A key to be made.

    Attributes:
        key_type: ``auth`` for a pre-auth key, ``api`` for an API token, ``client`` for an OAuth
            client; only the first has capabilities.
        expiry_seconds: until it expires; 0 for 90 days. OAuth clients do not.
        user: login of who owns the devices of a pre-auth key without tags. An extension.
        scopes: what an OAuth client may have tokens for.
        tags: of an OAuth client; none of its scopes needs any.
    """

    key_type: KeyType = "auth"
    capabilities: Capabilities = field(default_factory=Capabilities)
    expiry_seconds: Annotated[int, Meta(ge=0, le=_LONGEST_S)] = 0
    description: str = ""
    user: str | None = None
    scopes: list[Scope] | None = None
    tags: list[str] | None = None


class Key(Struct, frozen=True, rename="camel", kw_only=True):
    """A key. What does not apply is absent: Go's client would fail on an empty time.

    Attributes:
        key: the whole text; in the answer that made it and nowhere else.
        prefix: how the text begins, up to its secret. An extension.
        expires: absent for never.
        expiry_seconds: from `created` to `expires`.
        revoked: when it was taken back.
        invalid: it opens nothing: revoked, expired, or used up.
        user_id, user: who owns the devices of a pre-auth key without tags; `user` is an extension.
        uses, last_used: extensions.
        scopes: of an OAuth client.
    """

    id: str
    key_type: KeyType
    key: str | UnsetType = UNSET
    prefix: str
    description: str
    created: datetime
    updated: datetime
    expires: datetime | UnsetType = UNSET
    expiry_seconds: int | UnsetType = UNSET
    revoked: datetime | UnsetType = UNSET
    invalid: bool
    capabilities: Capabilities | UnsetType = UNSET
    user_id: str | UnsetType = UNSET
    user: str | UnsetType = UNSET
    uses: int | UnsetType = UNSET
    last_used: datetime | UnsetType = UNSET
    scopes: list[str] | UnsetType = UNSET


def known(when: datetime | None) -> datetime | UnsetType:
    """Return a time, or that the member is absent."""
    return UNSET if when is None else when


def lifetime(created: datetime, expires: datetime | None) -> int | UnsetType:
    """Return the seconds that a key lives."""
    return UNSET if expires is None else int((expires - created).total_seconds())
