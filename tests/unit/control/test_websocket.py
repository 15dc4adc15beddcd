from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded
from h2.settings import SettingCodes
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from mergescale.control.limits import Limits
from mergescale.control.websocket import handshake_in
from mergescale.kernel.keys import PrivateKey
from mergescale.wire.noise import Transport, initiate
from support.aio import aio, turns, until
from support.bridged import GET, Dripping, echo
from support.noise_server import MACHINE, Serving, serving

pytestmark = pytest.mark.enable_socket

PROTOCOL = Subprotocol("tailscale-control-protocol")


class Browser:
    """A wasm client: Noise and HTTP/2 over binary messages of any size."""

    def __init__(self, socket: ClientConnection, noise: Transport) -> None:
        self.socket = socket
        self.noise = noise
        self.h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 4 << 20})
        self.h2.increment_flow_control_window(1 << 24)
        self.goaway = False

    async def flush(self, chunk_bytes: int = 1 << 16) -> None:
        sealed = self.noise.seal(self.h2.data_to_send())
        for start in range(0, len(sealed), chunk_bytes):
            await self.socket.send(sealed[start : start + chunk_bytes])

    async def answer(self, stream_id: int) -> tuple[int, bytes]:
        status, body = 0, b""
        while True:
            message = await self.socket.recv()
            assert isinstance(message, bytes)
            for event in self.h2.receive_data(self.noise.receive(message)):
                match event:
                    case ResponseReceived(headers=headers):
                        status = int(dict(headers)[":status"])  # type: ignore[index]
                    case DataReceived(data=data):
                        body += data or b""
                    case StreamEnded():
                        return status, body
                    case ConnectionTerminated():
                        self.goaway = True
                    case _:
                        pass


def url(at: Serving, *, version: int = 130) -> tuple[str, Any]:
    started = initiate(
        version=version, static=MACHINE, ephemeral=PrivateKey(os.urandom(32)), server=at.key
    )
    handshake = quote(base64.b64encode(started.message).decode(), safe="")
    return f"ws://127.0.0.1:{at.port}/ts2021?X-Tailscale-Handshake={handshake}", started


@asynccontextmanager
async def browser(at: Serving) -> AsyncIterator[Browser]:
    address, started = url(at)
    async with connect(
        address, subprotocols=[PROTOCOL], origin=Origin("https://elsewhere.example"), proxy=None
    ) as socket:
        assert socket.subprotocol == PROTOCOL
        assert "sec-websocket-extensions" not in socket.response.headers  # type: ignore[union-attr]
        first = await socket.recv()
        assert isinstance(first, bytes)
        client = Browser(socket, started.finish(first[:51]))
        client.h2.receive_data(client.noise.receive(first[51:]))
        yield client


@aio
async def test_a_browser_talks_to_the_inner_application() -> None:
    """Subprotocol echoed, any origin, no compression, messages as one byte stream."""
    async with serving(echo) as at, browser(at) as client:
        client.h2.send_headers(1, GET, end_stream=False)
        client.h2.send_data(1, b"hello", end_stream=True)
        await client.flush(chunk_bytes=7)
        assert await client.answer(1) == (200, b"hello")
        assert at.door.pending == 0


@aio
async def test_a_long_answer_passes_the_messages() -> None:
    """More than the high-water mark goes through, with its back-pressure."""
    async with serving(echo) as at, browser(at) as client:
        client.h2.send_headers(1, [*GET[:3], (":path", "/big/1000000")], end_stream=True)
        await client.flush()
        assert await client.answer(1) == (200, b"x" * 1_000_000)


@aio
async def test_an_old_browser_is_told_the_minimum() -> None:
    """The error frame comes as a message, then the WebSocket closes."""
    async with serving(echo) as at:
        address, _ = url(at, version=100)
        async with connect(address, subprotocols=[PROTOCOL], proxy=None) as socket:
            frame = await socket.recv()
            assert isinstance(frame, bytes)
            assert frame[0] == 3
            assert b"capability version 106" in frame
            with pytest.raises(ConnectionClosed):
                await socket.recv()


@pytest.mark.parametrize(
    ("query", "subprotocols"),
    [
        ("", [PROTOCOL]),
        ("?X-Tailscale-Handshake=%25%25", [PROTOCOL]),
        ("?X-Tailscale-Handshake=AAAA", None),
    ],
)
@aio
async def test_what_is_no_handshake_is_a_400(
    query: str, subprotocols: list[Subprotocol] | None
) -> None:
    """A missing or broken handshake, or another subprotocol, does not become a WebSocket."""
    async with serving(echo) as at:
        with pytest.raises(InvalidStatus) as refused:
            async with connect(
                f"ws://127.0.0.1:{at.port}/ts2021{query}", subprotocols=subprotocols, proxy=None
            ):
                pass
        assert refused.value.response.status_code == 400


@aio
async def test_a_closed_browser_ends_its_handlers() -> None:
    """Closing the tab ends the map stream."""
    app = Dripping()
    async with serving(app) as at:
        async with browser(at) as client:
            client.h2.send_headers(1, GET, end_stream=True)
            await client.flush()
        await app.ended.wait()
        await turns()
        assert at.edge.state.tasks == set()


@aio
async def test_an_idle_browser_is_closed_in_order() -> None:
    """The channel's own close reaches the WebSocket as GOAWAY and a close message."""
    async with serving(echo, limits=Limits(idle_s=0.01)) as at, browser(at) as client:
        await client.flush()
        with pytest.raises(ConnectionClosed) as closed:
            await client.answer(1)
        assert client.goaway
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1000


@pytest.mark.parametrize("message", ["text", b"\x04\x00\x20" + b"\0" * 32])
@aio
async def test_a_message_out_of_protocol_ends_the_connection(message: str | bytes) -> None:
    """Text, or a record that does not decrypt, is the end."""
    async with serving(echo) as at, browser(at) as client:
        await client.socket.send(message)
        async with asyncio.timeout(5):
            await client.socket.wait_closed()


@aio
async def test_stopping_the_server_closes_browsers() -> None:
    """A stop with an open browser stream takes no grace."""
    app = Dripping()
    async with serving(app) as at, browser(at) as client:
        client.h2.send_headers(1, GET, end_stream=True)
        await client.flush()
        app.chunks.put_nowait(b"open")
        await until(lambda: app.sent)
        async with asyncio.timeout(1):
            await at.edge.stop(5)
        assert app.ended.is_set()


@pytest.mark.parametrize(
    ("query", "handshake"),
    [
        (b"X-Tailscale-Handshake=a%2Bb%2Fc%3D", b"a+b/c="),
        (b"x=1&X-Tailscale-Handshake=a+b/c=", b"a+b/c="),
        (b"x=1", None),
        (b"", None),
    ],
)
def test_a_plus_stays_a_plus(query: bytes, handshake: bytes | None) -> None:
    """Percent escapes are removed and nothing else: a plus belongs to base64."""
    assert handshake_in(query) == handshake
