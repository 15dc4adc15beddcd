"""Pre-auth keys: made, taken back, forgotten. `registration` is where they are used."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from mergescale.domain.authkey import AuthKey
from mergescale.domain.record import Drop, Put
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.errors import Conflict, Invalid, NotFound
from mergescale.kernel.ids import AuthKeyId
from mergescale.state import lookup
from mergescale.state.admission import check_active, declared_tags
from mergescale.state.outcome import Decision, Outcome, outcome, replaced

#: LIMIT: the hosted service's default.
DEFAULT_LIFE: Final = timedelta(days=90)
#: LIMIT: the hosted service ends at 90 days; a year covers devices in the field.
MAX_LIFE: Final = timedelta(days=366)
#: LIMIT: how long a key that admits nobody any more is listed, as headscale does.
KEPT_AFTER_END: Final = timedelta(days=7)
MAX_DESCRIPTION_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a new key is to do.

    Attributes:
        user: login of who owns the nodes; None exactly when `tags` do.
        life: until it expires.
    """

    user: str | None = None
    tags: tuple[str, ...] = ()
    reusable: bool = False
    ephemeral: bool = False
    preauthorized: bool = False
    life: timedelta = DEFAULT_LIFE
    description: str = ""


def create(key_id: AuthKeyId, secret_hash: bytes, wanted: Wanted) -> Decision[AuthKey]:
    """Make a key of an id and a secret drawn by the caller.

    Raises (when carried out):
        Invalid: both or neither of user and tags, an undeclared tag, a life out of bounds.
        Forbidden: the user is suspended.
        NotFound: no such user.
        Conflict: the id is taken.
    """

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[AuthKey]:
        if (wanted.user is None) == (not wanted.tags):
            raise Invalid("a key makes nodes of a user or of tags, so it needs one of them")
        if not timedelta(0) < wanted.life <= MAX_LIFE:
            raise Invalid(f"a key lives up to {MAX_LIFE.days} days")
        if len(wanted.description) > MAX_DESCRIPTION_CHARS:
            raise Invalid(f"a description has up to {MAX_DESCRIPTION_CHARS} characters")
        if key_id in snapshot.auth_keys:
            raise Conflict("this key id is in use")
        owner = None
        if wanted.user is not None:
            owner = check_active(lookup.user_by_login(snapshot, wanted.user)).id
        key = AuthKey(
            id=key_id,
            secret_hash=secret_hash,
            description=wanted.description,
            created=now,
            expires=now + wanted.life,
            user=owner,
            tags=declared_tags(snapshot, wanted.tags),
            reusable=wanted.reusable,
            ephemeral=wanted.ephemeral,
            preauthorized=wanted.preauthorized,
        )
        return outcome(snapshot, [Put(key)], key)

    return decide


def revoke(key_id: AuthKeyId) -> Decision[AuthKey]:
    """Let the key admit nobody any more; nodes it admitted stay."""

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[AuthKey]:
        key = find(snapshot, key_id)
        return replaced(snapshot, key, replace(key, revoked=key.revoked or now))

    return decide


def delete(key_id: AuthKeyId) -> Decision[AuthKey]:
    """Forget the key, at once and for good."""

    def decide(snapshot: Snapshot, _: datetime) -> Outcome[AuthKey]:
        key = find(snapshot, key_id)
        return outcome(snapshot, [Drop(key)], key)

    return decide


def find(snapshot: Snapshot, key_id: AuthKeyId) -> AuthKey:
    """Return the key; raise `NotFound` if there is none."""
    key = snapshot.auth_keys.get(key_id)
    if key is None:
        raise NotFound("no such auth key")
    return key


def listed(snapshot: Snapshot) -> list[AuthKey]:
    """Return all keys that are kept, oldest first."""
    return sorted(snapshot.auth_keys.values(), key=lambda key: (key.created, key.id))


def forgotten(snapshot: Snapshot, now: datetime) -> list[AuthKey]:
    """Return the keys that ended long enough ago to be dropped."""
    return [k for k in snapshot.auth_keys.values() if _ended(k) + KEPT_AFTER_END <= now]


def _ended(key: AuthKey) -> datetime:
    """Return when the key stopped, or will stop, to admit anybody."""
    ends = [key.expires]
    if key.revoked is not None:
        ends.append(key.revoked)
    if not key.reusable and key.last_used is not None:
        ends.append(key.last_used)
    return min(ends)
