"""Who a request is from, and what that allows.

API tokens and whoever may open the unix socket may do everything; an OAuth client may do what its
token was made for. Callers ask `require`, so that people with roles only need another way to make one.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from mergescale.domain.apikey import ApiKey
from mergescale.domain.scopes import Scope, covers, known
from mergescale.domain.snapshot import Snapshot
from mergescale.identity import accesstokens
from mergescale.identity.accesstokens import Presented
from mergescale.identity.secrets import Kind, Shown, parse, verify
from mergescale.kernel.errors import Forbidden, Invalid, Unauthorized
from mergescale.kernel.ids import ApiKeyId

#: LIMIT: an Authorization header of ours has some 80 characters, 110 as basic.
_HEADER_CHARS: Final = 1024


class Origin(StrEnum):
    """How a principal proved itself."""

    API_TOKEN = "api-token"  # noqa: S105 - a name, not a secret
    OAUTH_CLIENT = "oauth-client"
    LOCAL_SOCKET = "local-socket"


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who may act.

    Attributes:
        name: for the audit log; names the token by its id, never by its text.
        api_key: the token or OAuth client it came with, so that its use can be noted.
    """

    name: str
    origin: Origin
    scopes: frozenset[Scope]
    api_key: ApiKeyId | None = None

    def may(self, scope: Scope) -> bool:
        """Say whether the principal holds the scope."""
        return covers(self.scopes, scope)

    def require(self, scope: Scope) -> None:
        """Raise `Forbidden` unless the principal holds the scope."""
        if not self.may(scope):
            raise Forbidden(f"this needs the scope `{scope}`")


#: Whoever may open the server's unix socket; the file's mode is the check.
LOCAL_OPERATOR: Final = Principal("local", Origin.LOCAL_SOCKET, frozenset({Scope.ALL}))


#: What an Authorization header may hold.
Credential = Shown | Presented


def authenticate(
    snapshot: Snapshot, authorization: str | None, now: datetime, token_key: bytes
) -> Principal:
    """Return who sent a request with this Authorization header.

    A token comes as ``Bearer <token>``, or as Tailscale's clients send it: ``Basic`` with the
    token as user name and no password.

    Args:
        snapshot: of the tailnet that is to be opened.
        authorization: the header.
        now: the time.
        token_key: what access tokens are made under.

    Raises:
        Unauthorized: no usable token of this tailnet; never says why.
    """
    principal = None
    match credential(authorization):
        case Shown() as shown:
            principal = _operator(snapshot, shown, now)
        case Presented() as presented:
            principal = _client(snapshot, presented, now, token_key)
        case None:
            pass
    if principal is None:
        raise _refused()
    return principal


def credential(authorization: str | None) -> Credential | None:
    """Return the token in an Authorization header, None if there is none that could be one."""
    if authorization is None or len(authorization) > _HEADER_CHARS:
        return None
    scheme, _, rest = authorization.strip().partition(" ")
    match scheme.lower():
        case "bearer":
            text = rest
        case "basic":
            text = _user_name(rest)
        case _:
            return None
    try:
        shown = parse(text)
    except Invalid:
        return accesstokens.read(text)
    return shown if shown.kind is Kind.API else None


def key_of(shown: Credential) -> ApiKeyId:
    """Return the record that a credential says it is of."""
    match shown:
        case Shown(id=key):
            return ApiKeyId(key)
        case Presented(client=client):
            return client


def client_of(snapshot: Snapshot, shown: Shown, now: datetime) -> ApiKey:
    """Return the OAuth client that a secret is of.

    Raises:
        Unauthorized: no usable client of this tailnet; never says why.
    """
    key = _verified(snapshot, shown, now)
    if key is None or not key.is_client or shown.kind is not Kind.CLIENT:
        raise Unauthorized("the client is not known or its secret is wrong")
    return key


def _user_name(encoded: str) -> str:
    try:
        return base64.b64decode(encoded.strip(), validate=True).decode().partition(":")[0]
    except (binascii.Error, ValueError):
        return ""


def _verified(snapshot: Snapshot, shown: Shown, now: datetime) -> ApiKey | None:
    key = snapshot.api_keys.get(ApiKeyId(shown.id))
    if key is None or not verify(shown, key.secret_hash) or not key.usable(now):
        return None
    return key


def _operator(snapshot: Snapshot, shown: Shown, now: datetime) -> Principal | None:
    key = _verified(snapshot, shown, now)
    # INVARIANT(client secrets): the secret of a client is none of a token, however it is spelled.
    if key is None or key.is_client:
        return None
    return Principal(f"token {key.id}", Origin.API_TOKEN, frozenset({Scope.ALL}), key.id)


def _client(
    snapshot: Snapshot, presented: Presented, now: datetime, token_key: bytes
) -> Principal | None:
    key = snapshot.api_keys.get(presented.client)
    token = accesstokens.opened(token_key, presented, now)
    if key is None or key.client_scopes is None or not key.usable(now) or token is None:
        return None
    # A client never gets tokens for more than it has; what it lost since opens nothing either.
    scopes = frozenset(one for one in token.scopes if covers(known(key.client_scopes), one))
    return Principal(f"client {key.id}", Origin.OAUTH_CLIENT, scopes, key.id)


def _refused() -> Unauthorized:
    return Unauthorized(
        "an API token is needed", help="send it as `Authorization: Bearer mskey-api-…`"
    )
