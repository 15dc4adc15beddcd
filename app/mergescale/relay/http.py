"""What a relay answers over HTTP: latency probes, and ``/derp`` without a native upgrade.

The rest of spec 7.5, ``/generate_204`` and ``/bootstrap-dns``, is the whole server's and lives in
``control.public``.
"""

from __future__ import annotations

from typing import Any, Final

from litestar import MediaType, Response, asgi, get, head
from litestar.handlers import ASGIRouteHandler, HTTPRouteHandler

from mergescale.relay.service import DerpService
from mergescale.relay.upgrade import PATH
from mergescale.relay.websocket import WebSocketDoor

_PROBES: Final = ["/derp/probe", "/derp/latency-check"]
# A client in a browser asks from another origin.
_HEADERS: Final = {"access-control-allow-origin": "*", "cache-control": "no-store"}


def relay_handlers(service: DerpService) -> list[HTTPRouteHandler | ASGIRouteHandler]:
    """Return the handlers for the outer application; the native upgrade is `upgrade.Derp`.

    WIRE(rust): it measures with two requests on one connection, so nothing here may close it:
    the length of the answer is told, and ``Connection`` is left to the HTTP server (spec 9.3, 54).
    """
    door = WebSocketDoor(service)

    @get(_PROBES, media_type=MediaType.TEXT, sync_to_thread=False)
    def probe_relay() -> Response[str]:
        """Answer at once, so that a client can measure its distance."""
        return Response("ok\n", headers=_HEADERS)

    @head(_PROBES, media_type=MediaType.TEXT, sync_to_thread=False)
    def head_relay() -> Response[None]:
        """Do the same for HEAD."""
        return Response(None, headers=_HEADERS)

    @asgi(PATH, copy_scope=True)
    async def enter_relay(scope: Any, receive: Any, send: Any) -> None:
        """Serve the relay over a WebSocket, or ask for an upgrade."""
        await door(scope, receive, send)

    return [probe_relay, head_relay, enter_relay]
