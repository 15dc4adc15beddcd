from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from litestar import Litestar, Request, asgi, get, post
from litestar.response import Stream

from mergescale.control.upgrade import Door
from mergescale.control.websocket import WebSocketDoor
from mergescale.wire.noise import public_key
from support.aio import aio
from support.noise_server import MACHINE, serving

pytestmark = pytest.mark.enable_socket


@aio
async def test_litestar_runs_inside_the_channel(caplog: pytest.LogCaptureFixture) -> None:
    """Litestar handlers see the peer, stream chunk by chunk, and end at once without a traceback."""
    ended = asyncio.Event()

    @post("/machine/register", status_code=200)
    async def register(request: Request[Any, Any, Any]) -> dict[str, str]:
        data = await request.json()
        return {**data, "peer": str(request.scope["state"]["peer"])}

    @post("/machine/map", status_code=200)
    async def poll() -> Stream:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                yield b"first"
                yield b"second"
                await asyncio.Event().wait()
            finally:
                ended.set()

        return Stream(chunks())

    app = Litestar([register, poll], openapi_config=None)
    async with serving(app) as at, at.client() as client:
        reply = await client.post("/machine/register", b'{"Version":"130"}')
        expected = b'{"Version":"130","peer":"%s"}' % str(public_key(MACHINE)).encode()
        assert (reply.status, reply.body) == (200, expected)
        assert (await client.post("/machine/unheard-of")).status == 404
        call = await client.open("POST", "/machine/map", b"{}")
        assert await call.started() == 200
        assert [await call.chunk(), await call.chunk()] == [b"first", b"second"]
        await call.reset()
        await ended.wait()
    assert caplog.records == []


@aio
async def test_litestar_can_route_to_the_websocket_door() -> None:
    """An ``asgi`` route of the outer application serves ``/ts2021`` beside ordinary handlers."""

    @get("/health", sync_to_thread=False)
    def health() -> str:
        return "ok"

    async with serving(None) as at:
        door: Door = at.door
        route = asgi("/ts2021", copy_scope=False)(WebSocketDoor(door).__call__)
        app = Litestar([health, route], openapi_config=None)
        said: list[dict[str, Any]] = []

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            said.append(message)

        scope: Any = {
            "type": "websocket",
            "path": "/ts2021",
            "raw_path": b"/ts2021",
            "query_string": b"",
            "headers": [],
            "subprotocols": ["tailscale-control-protocol"],
            "root_path": "",
            "scheme": "ws",
            "state": {},
        }
        await app(scope, receive, send)
        assert [message["type"] for message in said] == [
            "websocket.http.response.start",
            "websocket.http.response.body",
        ]
        assert said[1]["body"] == b"the tailscale handshake is missing"
