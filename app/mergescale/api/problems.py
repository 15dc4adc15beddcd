"""Errors as HTTP answers: one table of what the domain says, one function that says it.

Below ``/api/v2`` an error is Tailscale's ``{"message": ...}``; everywhere else it is a problem
document (RFC 9457). What nobody foresaw is logged under the request's id and answered with that id
and nothing more: no type, no text, no SQL.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from mergescale.kernel.errors import (
    Conflict,
    Forbidden,
    Invalid,
    MergescaleError,
    NotFound,
    Refusal,
    Unauthorized,
)
from mergescale.state.engine import EngineStopped
from mergescale.state.policies import PolicyMoved
from mergescale.state.ports import StoreUnavailable
from mergescale.state.throttle import TooManyAttempts

log = structlog.get_logger()

V2_PREFIX: Final = "/api/v2"
#: Seconds after which a client may try again when the server cannot write.
_RETRY_AFTER_S: Final = "5"
#: LIMIT: some messages of the decoder repeat the input.
_TEXT_CHARS: Final = 200
_REQUEST_ID: Final = "mergescale.request_id"

#: What a family of errors is in HTTP; the nearest ancestor counts. Whatever is not here is a bug.
_STATUS: Final[Mapping[type[MergescaleError], HTTPStatus]] = {
    NotFound: HTTPStatus.NOT_FOUND,
    # SPEC(RFC 9110 13.1.1): it only ever answers an `If-Match`.
    PolicyMoved: HTTPStatus.PRECONDITION_FAILED,
    Conflict: HTTPStatus.CONFLICT,
    Invalid: HTTPStatus.BAD_REQUEST,
    Unauthorized: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    Refusal: HTTPStatus.BAD_REQUEST,
    StoreUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    EngineStopped: HTTPStatus.SERVICE_UNAVAILABLE,
}
#: What the framework refuses before a handler runs.
_FRAMEWORK_TEXT: Final[Mapping[int, str]] = {
    HTTPStatus.NOT_FOUND: "there is nothing at this address",
    HTTPStatus.METHOD_NOT_ALLOWED: "this address does not know this method",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "the body is too large",
}


class Message(msgspec.Struct, frozen=True):
    """An error of ``/api/v2``, as Tailscale's clients read it.

    Attributes:
        message: what was wrong and, after a semicolon, what to do about it.
    """

    message: str


class Problem(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """An error everywhere else (RFC 9457, ``application/problem+json``).

    Attributes:
        title: the status in words.
        detail: what was wrong.
        help: what to do about it.
        code: stable and dotted; to be matched by programs.
        request_id: under which the server's log has more.
    """

    title: str
    status: int
    detail: str
    code: str = ""
    help: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class _Said:
    """What is told of an error."""

    status: HTTPStatus
    text: str
    help: str = ""
    code: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def request_id(scope: Mapping[str, Any]) -> str:
    """Return the id of a request, the same for as long as it is served.

    Drawn here, never taken from the request: it links an answer to a line of the log.
    """
    state: MutableMapping[str, Any] = scope["state"]
    found: str = state.setdefault(_REQUEST_ID, uuid.uuid4().hex[:16])
    return found


def answer(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Return the answer to a request that ended in an error."""
    said = _say(request, error)
    if f"{request.scope['path']}/".startswith(f"{V2_PREFIX}/"):
        text = f"{said.text}; {said.help}" if said.help else said.text
        body: Message | Problem = Message(text)
        media_type = "application/json"
    else:
        body = Problem(
            title=said.status.phrase,
            status=said.status.value,
            detail=said.text,
            code=said.code,
            help=said.help,
            request_id=request_id(request.scope),
        )
        media_type = "application/problem+json"
    return Response(
        msgspec.json.encode(body),
        status_code=said.status.value,
        media_type=media_type,
        headers=dict(said.headers),
    )


def _say(request: Request[Any, Any, Any], error: Exception) -> _Said:
    match error:
        case TooManyAttempts(retry_after_s=retry_after_s):
            headers = {"retry-after": str(retry_after_s)}
            return _Said(HTTPStatus.TOO_MANY_REQUESTS, error.message, "", error.code, headers)
        case StoreUnavailable() | EngineStopped():
            log.error("request.not-stored", request=request_id(request.scope), why=error.message)
            text = "the server cannot write at the moment, nothing was changed"
            headers = {"retry-after": _RETRY_AFTER_S}
            return _Said(HTTPStatus.SERVICE_UNAVAILABLE, text, code=error.code, headers=headers)
        case MergescaleError() if (status := _status(error)) is not None:
            # SPEC(RFC 9110 11.6.1): a 401 names a scheme. Basic works too but is not offered, or
            # browsers would ask for it and then send it with requests that other sites make.
            challenge = {"www-authenticate": 'Bearer realm="mergescale"'}
            headers = challenge if status is HTTPStatus.UNAUTHORIZED else {}
            return _Said(status, error.message, error.help, error.code, headers)
        case HTTPException() if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
            return _framework(error)
    where = request_id(request.scope)
    log.error("request.failed", request=where, exc_info=error)
    text = f"internal error; the server's log has more under request {where}"
    return _Said(HTTPStatus.INTERNAL_SERVER_ERROR, text, code="internal")


def _status(error: MergescaleError) -> HTTPStatus | None:
    families = (_STATUS.get(family) for family in type(error).__mro__)
    return next((status for status in families if status is not None), None)


def _framework(error: HTTPException) -> _Said:
    status = HTTPStatus(error.status_code)
    text = _FRAMEWORK_TEXT.get(status) or _mistakes(error) or "the request cannot be understood"
    return _Said(status, text, headers=error.headers or {})


def _mistakes(error: HTTPException) -> str:
    """Return what is wrong with the members of a body or a query, one after another."""
    if not isinstance(error.extra, list):
        return ""
    return ", ".join(_mistake(one) for one in error.extra)


def _mistake(one: Mapping[str, str]) -> str:
    where, what = one.get("key", ""), lowered(one["message"])
    match where:
        case "data" if what == "'data'":
            return "a JSON body is needed"
        case "data":
            return f"the body: {what}"
        case "":
            return what
        case _:
            return f'"{where}": {what}'


def lowered(text: str) -> str:
    """Return what a library says about input in the form of our own messages."""
    first, rest = text[:1], text[1:_TEXT_CHARS]
    return first + rest if rest[:1].isupper() else first.lower() + rest
