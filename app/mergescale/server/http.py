"""The outer application: everything that is plain HTTP, on one port.

What it adds to the handlers of others: one way to say errors, an id for every request, the headers
that keep browsers from guessing, and a limit for bodies.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from litestar import Litestar, Router, asgi
from litestar.connection import ASGIConnection
from litestar.datastructures import MutableScopeHeaders
from litestar.exceptions import NotFoundException
from litestar.handlers import ASGIRouteHandler, BaseRouteHandler
from litestar.types import ControllerRouterHandler, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from mergescale.api.openapi import openapi_config
from mergescale.api.problems import answer, request_id

#: LIMIT: the largest body of the API has some hundred routes; handlers with other needs say so.
BODY_BYTES: Final = 64 << 10
#: What goes on every answer that does not say otherwise. A page says what it may load; whatever
#: else a browser shows by mistake may load nothing.
_HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
}


ASGIApplication = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the application is made of; each is a list of handlers or routers.

    Attributes:
        api: ``api.handlers.api_handlers``; described in OpenAPI, the others are not.
        web: ``web.handlers.web_handlers``.
        control: ``control.public.public_handlers``, and `raw` ``/ts2021`` for browsers.
        relay: the HTTP side of the relay, and `raw` ``/derp`` for browsers.
    """

    api: Sequence[ControllerRouterHandler]
    web: Sequence[ControllerRouterHandler]
    control: Sequence[ControllerRouterHandler] = ()
    relay: Sequence[ControllerRouterHandler] = ()


def application(parts: Parts) -> Litestar:
    """Put the application together."""
    undescribed = Router(
        "/",
        route_handlers=[*parts.web, *parts.control, *parts.relay],
        include_in_schema=False,
    )
    return Litestar(
        route_handlers=[*parts.api, undescribed],
        openapi_config=openapi_config(),
        exception_handlers={Exception: answer},
        before_send=[_dress],
        request_max_body_size=BODY_BYTES,
        logging_config=None,
        debug=False,
    )


def identified(app: ASGIApplication) -> ASGIApplication:
    """Return the application with each request's id in whatever is logged while it is served."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
            return
        with bound_contextvars(request=request_id(scope)):
            await app(scope, receive, send)

    return serve


def require_local(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Guard what is for this machine's administrator: for others it does not exist."""
    # INVARIANT(local): set by the edge for its unix socket only.
    if connection.scope["state"].get("local") is not True:
        raise NotFoundException


def raw(path: str, app: ASGIApplication) -> ASGIRouteHandler:
    """Return a handler that leaves a path to an ASGI application: WebSockets, and HTTP beside them."""

    @asgi(path, copy_scope=True)
    async def hand_over(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)

    return hand_over


async def _dress(message: Message, scope: Scope) -> None:
    """Complete the head of a response. Sees every one, also those that no handler made."""
    if message["type"] != "http.response.start":
        return
    headers = MutableScopeHeaders.from_message(message)
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)
    headers["x-request-id"] = request_id(scope)
