"""Access tokens: what an OAuth client gets for its secret, for an hour.

    mskey-token-<client id>-<claims>-<mac>

``claims`` is the JSON ``[expires, [scope, …]]`` in hex, ``expires`` in seconds since 1970; ``mac`` is
HMAC-SHA256 over the client's id and the claims, in hex, under a key that all replicas share. Nothing
is stored: any replica can check a token, and revoking the client ends all of its tokens.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from mergescale.domain.scopes import Scope, known
from mergescale.kernel.ids import ApiKeyId

#: SPEC(hosted service): how long a token opens the API.
LIFE: Final = timedelta(hours=1)
_PURPOSE: Final = b"mergescale access token"
#: The claims of all scopes have some 80 bytes.
_TEXT: Final = re.compile(
    r"mskey-token-([1-9A-HJ-NP-Za-km-z]{12})-((?:[0-9a-f]{2}){4,150})-([0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a token says.

    Attributes:
        client: whose it is.
        expires: with whole seconds.
    """

    client: ApiKeyId
    scopes: frozenset[Scope]
    expires: datetime


@dataclass(frozen=True, slots=True)
class Presented:
    """A token that somebody showed; whether it is right is for `opened` to say."""

    client: ApiKeyId
    claims: bytes
    mac: bytes


def write(key: bytes, token: AccessToken) -> str:
    """Return the token as text, under the key of all replicas."""
    said = [int(token.expires.timestamp()), sorted(token.scopes)]
    claims = msgspec.json.encode(said)
    return f"mskey-token-{token.client}-{claims.hex()}-{_mac(key, token.client, claims).hex()}"


def read(text: str) -> Presented | None:
    """Return what a text claims, None if it is no token of ours."""
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        return None
    client, claims, mac = found.groups()
    return Presented(ApiKeyId(client), bytes.fromhex(claims), bytes.fromhex(mac))


def opened(key: bytes, presented: Presented, now: datetime) -> AccessToken | None:
    """Return what the token says, None if it is forged or has expired."""
    if not hmac.compare_digest(presented.mac, _mac(key, presented.client, presented.claims)):
        return None
    expires_s, scopes = msgspec.json.decode(presented.claims, type=tuple[int, list[str]])
    expires = datetime.fromtimestamp(expires_s, tz=UTC)
    return None if expires <= now else AccessToken(presented.client, known(scopes), expires)


def _mac(key: bytes, client: ApiKeyId, claims: bytes) -> bytes:
    return hmac.digest(key, b"\0".join((_PURPOSE, client.encode(), claims)), "sha256")
