"""Access tokens for OAuth clients: the client credentials grant (RFC 6749 section 4.4)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_plus

import structlog
from litestar import Request, Response, Router, post
from litestar.openapi.datastructures import ResponseSpec
from msgspec import Struct

from mergescale.api.bodies import TakesForm
from mergescale.api.callers import Backend
from mergescale.api.problems import Message
from mergescale.domain.apikey import ApiKey
from mergescale.domain.scopes import Scope, covers, known
from mergescale.identity import accesstokens
from mergescale.identity.accesstokens import AccessToken
from mergescale.identity.principals import client_of
from mergescale.identity.secrets import Kind, parse
from mergescale.kernel.errors import Invalid, Unauthorized
from mergescale.kernel.ids import ApiKeyId
from mergescale.state.engine import Engine
from mergescale.state.throttle import API_TOKEN, place

log = structlog.get_logger()

#: LIMIT: a request has an id, a secret and a few words.
_BODY_BYTES: Final = 8 << 10
_GRANT: Final = "client_credentials"
#: SPEC(RFC 6749 5.1): nobody on the way keeps the answer; ``cache-control`` is on every answer.
_HEADERS: Final = {"pragma": "no-cache"}
_CHALLENGE: Final = {**_HEADERS, "www-authenticate": 'Basic realm="mergescale"'}


class Token(Struct, frozen=True):
    """An access token (RFC 6749 section 5.1)."""

    access_token: str
    token_type: str
    expires_in: int
    scope: str


class Refused(Struct, frozen=True):
    """Why there is none (RFC 6749 section 5.2)."""

    error: str
    error_description: str


class _Refusal(Exception):
    """Ends a request; `error` is a word of RFC 6749 section 5.2."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.refused = Refused(error, description)


def oauth_router(backend: Backend) -> Router:
    """Return what answers ``/api/v2/oauth``; no token is needed to ask for one."""

    @post(
        "/token",
        status_code=200,
        responses={
            400: ResponseSpec(Refused, description="The request asks for what cannot be"),
            401: ResponseSpec(Refused, description="No usable OAuth client"),
            413: ResponseSpec(Message, description="The body is too large"),
            429: ResponseSpec(Message, description="Too many failed attempts"),
        },
        tags=["OAuth"],
        operation_class=TakesForm,
        request_max_body_size=_BODY_BYTES,
    )
    async def get_token(request: Request[Any, Any, Any]) -> Response[Token | Refused]:
        """Give an OAuth client a token for an hour, for all or some of its scopes.

        The client's id and secret come with basic authentication or in the form, as `client_id`
        and `client_secret`. `scope` may name some of its scopes, with spaces between them.
        """
        try:
            token = await _token(backend, request)
        except _Refusal as refusal:
            unknown = refusal.refused.error == "invalid_client"
            headers = _CHALLENGE if unknown else _HEADERS
            return Response(refusal.refused, status_code=401 if unknown else 400, headers=headers)
        return Response(token, headers=_HEADERS)

    return Router("/api/v2/oauth", route_handlers=[get_token])


async def _token(backend: Backend, request: Request[Any, Any, Any]) -> Token:
    form = _form(await request.body())
    if form.get("grant_type", _GRANT) != _GRANT:
        raise _Refusal("unsupported_grant_type", f"grant_type must be {_GRANT}")
    engine, client = await _client(backend, request, form)
    scopes = _scopes(client, form.get("scope", ""))
    expires = backend.clock.now() + accesstokens.LIFE
    text = accesstokens.write(backend.token_key, AccessToken(client.id, scopes, expires))
    scope = " ".join(sorted(scopes))
    log.info("oauth.issued", tailnet=engine.snapshot.tailnet, client=client.id, scope=scope)
    return Token(text, "Bearer", int(accesstokens.LIFE.total_seconds()), scope)


def _form(body: bytes) -> Mapping[str, str]:
    try:
        pairs = parse_qsl(body.decode("ascii"), errors="strict", max_num_fields=20)
    except ValueError:
        raise _Refusal("invalid_request", "the body is no form") from None
    form = dict(pairs)
    # SPEC(RFC 6749 3.2): parameters come once.
    if len(form) != len(pairs):
        raise _Refusal("invalid_request", "a parameter comes twice")
    return form


async def _client(
    backend: Backend, request: Request[Any, Any, Any], form: Mapping[str, str]
) -> tuple[Engine, ApiKey]:
    """Return the client that shows itself; whoever fails too often has to wait."""
    header = request.headers.get("authorization")
    client_id, secret = (
        (form.get("client_id", ""), form.get("client_secret", ""))
        if header is None
        else _basic(header)
    )
    throttle = backend.throttle
    who = place(request.client.host if request.client is not None else "")
    if throttle is not None:
        throttle.check(API_TOKEN, who)
    try:
        return _known(backend, client_id, secret)
    except (Unauthorized, Invalid):
        if throttle is not None:
            await throttle.failed(API_TOKEN, who)
        raise _Refusal("invalid_client", "the client is not known or its secret is wrong") from None


def _known(backend: Backend, client_id: str, secret: str) -> tuple[Engine, ApiKey]:
    shown = parse(secret)
    if shown.kind is not Kind.CLIENT or client_id not in {"", shown.id}:
        raise Unauthorized("this is no secret of the client")
    tailnets = backend.tailnets
    engine = tailnets.of_api_key(ApiKeyId(shown.id)) or tailnets.default
    return engine, client_of(engine.snapshot, shown, backend.clock.now())


def _basic(header: str) -> tuple[str, str]:
    """Read ``Basic``; SPEC(RFC 6749 2.3.1): both halves are written as in a form."""
    scheme, _, encoded = header.strip().partition(" ")
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return "", ""
    if scheme.lower() != "basic":
        return "", ""
    client_id, _, secret = text.partition(":")
    return unquote_plus(client_id), unquote_plus(secret)


def _scopes(client: ApiKey, asked: str) -> frozenset[Scope]:
    """Return what the token is for: all that the client has, or what it asks for of that."""
    held = known(client.client_scopes or ())
    words = asked.split()
    wanted = known(words)
    if len(wanted) != len(set(words)) or not all(covers(held, one) for one in wanted):
        raise _Refusal("invalid_scope", "the client has no such scope")
    return wanted or held
