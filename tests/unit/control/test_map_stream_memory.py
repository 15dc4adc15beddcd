"""What map streams keep while they wait, and what they leave behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from litestar import Litestar, post
from litestar.types import ASGIApp

from mergescale.control.app import Paced, _Frames
from mergescale.control.bridge import Bridge
from support.aio import aio, until
from support.noise_server import serving

pytestmark = pytest.mark.enable_socket


class Frame(bytes):
    """Bytes that can be found among all objects."""


def streaming(frames: AsyncGenerator[bytes, None]) -> Any:
    """Return an application whose one path streams the frames as a map."""

    @post("/machine/map", status_code=200)
    async def poll() -> ASGIApp:
        return _Frames(iterator=frames, media_type="application/octet-stream")

    return Paced(Litestar([poll], openapi_config=None))


@aio
async def test_a_waiting_stream_holds_no_frame() -> None:
    """Once a frame is written and the next is waited for, nobody keeps it: it may be a whole map."""
    waiting = asyncio.Event()

    async def frames() -> AsyncGenerator[bytes, None]:
        yield Frame(b"a whole map")
        waiting.set()
        await asyncio.Event().wait()

    async with serving(streaming(frames())) as at, at.client() as client:
        call = await client.open("POST", "/machine/map", b"{}")
        assert await call.chunk() == b"a whole map"
        await waiting.wait()
        assert [one for one in gc.get_objects() if isinstance(one, Frame)] == []


@aio
async def test_a_client_that_is_gone_leaves_no_cycle() -> None:
    """Its connection is freed by its last reference, not by a collection that stops the loop."""

    def bridges() -> int:
        return sum(isinstance(one, Bridge) for one in gc.get_objects())

    closed = asyncio.Event()

    async def frames() -> AsyncGenerator[bytes, None]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            closed.set()

    gc.collect()
    gc.disable()
    try:
        async with serving(streaming(frames())) as at:
            async with at.client() as client:
                call = await client.open("POST", "/machine/map", b"{}")
                assert await call.chunk() == b"first"
                assert bridges() == 1
            await closed.wait()
            await until(lambda: not (at.edge.state.tasks or at.edge.state.connections))
            # The bridge's own timers may hold it for one more turn.
            await asyncio.sleep(0)
        assert bridges() == 0
    finally:
        gc.enable()
