"""API tokens and OAuth clients: made, used, taken back, forgotten."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from mergescale.domain.apikey import ApiKey
from mergescale.domain.record import Drop, Put
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.errors import Conflict, Invalid, NotFound
from mergescale.kernel.ids import ApiKeyId
from mergescale.state.outcome import Decision, Outcome, outcome, replaced

#: LIMIT: the hosted service's default.
DEFAULT_LIFE: Final = timedelta(days=90)
MAX_LIFE: Final = timedelta(days=366)
#: LIMIT: how long a token that opens nothing any more is listed.
KEPT_AFTER_END: Final = timedelta(days=7)
#: LIMIT: `ApiKey.last_used` is this coarse, so that a busy tool costs a write a minute.
USE_NOTED_EVERY: Final = timedelta(minutes=1)
MAX_DESCRIPTION_CHARS: Final = 200


def create(
    key_id: ApiKeyId,
    secret_hash: bytes,
    description: str = "",
    life: timedelta | None = DEFAULT_LIFE,
    *,
    client_scopes: tuple[str, ...] | None = None,
) -> Decision[ApiKey]:
    """Make a token of an id and a secret drawn by the caller.

    Args:
        key_id: public half.
        secret_hash: SHA-256 of the secret half.
        description: for lists.
        life: until it expires; None for never, which is for the administrator's first one and for
            OAuth clients.
        client_scopes: what an OAuth client may have tokens for; None for an API token.

    Raises (when carried out):
        Invalid: a life or description out of bounds; a client that could have no token.
        Conflict: the id is taken.
    """

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[ApiKey]:
        if life is not None and not timedelta(0) < life <= MAX_LIFE:
            raise Invalid(f"an API token lives up to {MAX_LIFE.days} days")
        if len(description) > MAX_DESCRIPTION_CHARS:
            raise Invalid(f"a description has up to {MAX_DESCRIPTION_CHARS} characters")
        if client_scopes == ():
            raise Invalid("an OAuth client needs a scope")
        if key_id in snapshot.api_keys:
            raise Conflict("this token id is in use")
        expires = None if life is None else now + life
        key = ApiKey(key_id, secret_hash, description, now, expires, client_scopes=client_scopes)
        return outcome(snapshot, [Put(key)], key)

    return decide


def revoke(key_id: ApiKeyId) -> Decision[ApiKey]:
    """Let the token open nothing any more."""

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[ApiKey]:
        key = find(snapshot, key_id)
        return replaced(snapshot, key, replace(key, revoked=key.revoked or now))

    return decide


def delete(key_id: ApiKeyId) -> Decision[ApiKey]:
    """Forget the token, at once and for good."""

    def decide(snapshot: Snapshot, _: datetime) -> Outcome[ApiKey]:
        key = find(snapshot, key_id)
        return outcome(snapshot, [Drop(key)], key)

    return decide


def used(key_id: ApiKeyId) -> Decision[ApiKey]:
    """Note that the token was used; ask `use_is_news` first and save the turn."""

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[ApiKey]:
        key = find(snapshot, key_id)
        if not use_is_news(key, now):
            return outcome(snapshot, (), key)
        return replaced(snapshot, key, replace(key, last_used=now))

    return decide


def use_is_news(key: ApiKey, now: datetime) -> bool:
    """Say whether a use now is worth a write."""
    return key.last_used is None or now - key.last_used >= USE_NOTED_EVERY


def find(snapshot: Snapshot, key_id: ApiKeyId) -> ApiKey:
    """Return the token; raise `NotFound` if there is none."""
    key = snapshot.api_keys.get(key_id)
    if key is None:
        raise NotFound("no such API token")
    return key


def listed(snapshot: Snapshot) -> list[ApiKey]:
    """Return all tokens and clients that are kept, oldest first."""
    return sorted(snapshot.api_keys.values(), key=lambda key: (key.created, key.id))


def forgotten(snapshot: Snapshot, now: datetime) -> list[ApiKey]:
    """Return the tokens that ended long enough ago to be dropped."""
    return [
        key
        for key in snapshot.api_keys.values()
        if any(
            end is not None and end + KEPT_AFTER_END <= now for end in (key.revoked, key.expires)
        )
    ]
