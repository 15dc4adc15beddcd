"""Who a request is from, and what that allows.

Everybody who gets in today may do everything; a principal carries scopes all the same, and callers
ask `may`, so that narrower tokens and people with roles only need another way to make one.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from mergescale.domain.apikey import ApiKey
from mergescale.domain.snapshot import Snapshot
from mergescale.identity.secrets import Kind, Shown, parse, verify
from mergescale.kernel.errors import Forbidden, Invalid, Unauthorized
from mergescale.kernel.ids import ApiKeyId

#: LIMIT: an Authorization header of ours has some 80 characters, 110 as basic.
_HEADER_CHARS: Final = 1024


class Scope(StrEnum):
    """What a principal may do, as Tailscale's API names it."""

    ALL = "all"


class Origin(StrEnum):
    """How a principal proved itself."""

    API_TOKEN = "api-token"  # noqa: S105 - a name, not a secret
    LOCAL_SOCKET = "local-socket"


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who may act.

    Attributes:
        name: for the audit log; names the token by its id, never by its text.
        api_key: the token it came with, so that its use can be noted.
    """

    name: str
    origin: Origin
    scopes: frozenset[Scope]
    api_key: ApiKeyId | None = None

    def may(self, scope: Scope) -> bool:
        """Say whether the principal holds the scope."""
        return Scope.ALL in self.scopes or scope in self.scopes

    def require(self, scope: Scope) -> None:
        """Raise `Forbidden` unless the principal holds the scope."""
        if not self.may(scope):
            raise Forbidden(f"this needs the scope `{scope}`")


#: Whoever may open the server's unix socket; the file's mode is the check.
LOCAL_OPERATOR: Final = Principal("local", Origin.LOCAL_SOCKET, frozenset({Scope.ALL}))


def authenticate(snapshot: Snapshot, authorization: str | None, now: datetime) -> Principal:
    """Return who sent a request with this Authorization header.

    A token comes as ``Bearer <token>``, or as Tailscale's clients send it: ``Basic`` with the
    token as user name and no password.

    Raises:
        Unauthorized: no usable token of this tailnet; never says why.
    """
    shown = shown_token(authorization)
    key = None if shown is None else snapshot.api_keys.get(ApiKeyId(shown.id))
    if shown is None or key is None or not verify(shown, key.secret_hash) or not key.usable(now):
        raise _refused()
    return _operator(key)


def shown_token(authorization: str | None) -> Shown | None:
    """Return the API token in an Authorization header, None if there is none that could be one."""
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
        return None
    return shown if shown.kind is Kind.API else None


def _user_name(encoded: str) -> str:
    try:
        return base64.b64decode(encoded.strip(), validate=True).decode().partition(":")[0]
    except (binascii.Error, ValueError):
        return ""


def _operator(key: ApiKey) -> Principal:
    return Principal(f"token {key.id}", Origin.API_TOKEN, frozenset({Scope.ALL}), key.id)


def _refused() -> Unauthorized:
    return Unauthorized(
        "an API token is needed", help="send it as `Authorization: Bearer mskey-api-…`"
    )
