"""A small ts2021 client for tests and load: upgrade, Noise, HTTP/2 with its own windows.

::

    async with NoiseClient.connect(host, port, machine=private, server=public) as client:
        answer = await client.post("/machine/register", body)      # .status .headers .body
        async for chunk in client.stream("/machine/map", body):    # one DATA frame at a time
            ...
        call = await client.open("POST", "/machine/map", body)     # many at once, reset by hand
        await call.reset()

It knows nothing of tailcfg. For hostile tests, ``client.h2`` is the hyper-h2 connection (then
``client.flush()``), ``client.send_plaintext`` seals any bytes, ``client.writer`` takes raw ones, and
``client.stop_reading`` makes it a suspended laptop.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    PingAckReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.settings import SettingCodes

from mergescale.kernel.keys import MachineKey, PrivateKey
from mergescale.wire.noise import RESPONSE_BYTES, Transport, initiate

Headers = Sequence[tuple[str, str]]

#: As a Go client: 4 MiB per stream, practically no bound per connection.
STREAM_WINDOW_BYTES = 4 << 20
CONNECTION_WINDOW_BYTES = 1 << 30


class UpgradeRefused(Exception):
    """Raised when the answer is not 101.

    Attributes:
        status: the HTTP status, or 101 when an error frame came in place of the Noise response.
        text: body of the response, or text of the error frame.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status
        self.text = text


class StreamWasReset(Exception):
    """Raised when the server reset the stream.

    Attributes:
        code: the HTTP/2 error code.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"stream reset with code {code}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete response."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(eq=False, slots=True)
class Call:
    """A request under way; iterate over it for the chunks of its response."""

    client: NoiseClient
    stream_id: int
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    ended: bool = False
    _started: asyncio.Event = field(default_factory=asyncio.Event)
    _chunks: asyncio.Queue[tuple[bytes, int] | Exception | None] = field(
        default_factory=asyncio.Queue
    )

    async def started(self) -> int:
        """Wait for the response headers and return the status."""
        await self._started.wait()
        if self.status == 0:
            await self.chunk()  # raises what ended the stream
        return self.status

    async def chunk(self) -> bytes:
        """Return the next DATA frame's bytes, empty at the end; its window is given back now."""
        item = await self._chunks.get()
        match item:
            case None:
                self._chunks.put_nowait(None)
                return b""
            case Exception():
                self._chunks.put_nowait(item)
                raise item
            case (data, size_bytes):
                self.client.acknowledge(self.stream_id, size_bytes)
                return data
        return b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self.chunk():
            yield data

    async def answer(self) -> Answer:
        """Wait for the whole response."""
        status = await self.started()
        body = b"".join([data async for data in self])
        return Answer(status, self.headers, body)

    async def reset(self, code: int = 8) -> None:
        """Send RST_STREAM, by default CANCEL."""
        self.client.h2.reset_stream(self.stream_id, code)
        await self.client.flush()

    def feed(self, item: tuple[bytes, int] | Exception | None) -> None:
        """Take what the connection heard; None is the end."""
        if not isinstance(item, tuple):
            self.ended = True
            self._started.set()
        self._chunks.put_nowait(item)

    def begin(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Take the response headers."""
        self.headers = {bytes(k).decode(): bytes(v).decode() for k, v in headers}
        self.status = int(self.headers.pop(":status"))
        self._started.set()


class NoiseClient:
    """One connection to control.

    Attributes:
        h2: the HTTP/2 connection, for tests that misbehave.
        noise: the record layer.
        goaway: the error code of the server's GOAWAY, None before it came.
        gone: set when the connection has ended.
        pings: payloads of answered PINGs.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, noise: Transport
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.noise = noise
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self.goaway: int | None = None
        self.gone = asyncio.Event()
        self.pings: list[bytes] = []
        self._calls: dict[int, Call] = {}
        self._window_changed = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(
        cls,
        host: str,
        port: int,
        *,
        machine: PrivateKey,
        server: MachineKey,
        version: int = 130,
        tls: ssl.SSLContext | None = None,
        window_bytes: int = STREAM_WINDOW_BYTES,
        forwarded_for: str = "",
    ) -> AsyncGenerator[Self, None]:
        """Dial, upgrade, start HTTP/2; close on the way out. A proxy would say who it is for."""
        reader, writer = await asyncio.open_connection(host, port, ssl=tls)
        try:
            ephemeral = PrivateKey(os.urandom(32))
            noise = await upgrade(
                reader,
                writer,
                initiate(version=version, static=machine, ephemeral=ephemeral, server=server),
                forwarded_for,
            )
            client = cls(reader, writer, noise)
            await client.start(window_bytes)
        except BaseException:
            writer.close()
            raise
        try:
            yield client
        finally:
            await client.close()

    async def start(self, window_bytes: int = STREAM_WINDOW_BYTES) -> None:
        """Send preface and SETTINGS, begin to read."""
        self.h2.initiate_connection()
        self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window_bytes})
        extra = (CONNECTION_WINDOW_BYTES if window_bytes >= 65_535 else 65_535) - 65_535
        if extra:
            self.h2.increment_flow_control_window(extra)
        self._pump = asyncio.create_task(self._read())
        await self.flush()

    async def close(self) -> None:
        """Close the socket and wait until it is."""
        await self.stop_reading()
        self.writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await self.writer.wait_closed()

    async def stop_reading(self) -> None:
        """Read no more; the kernel's buffers fill up."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
            self._pump = None
            self.writer.transport.pause_reading()  # type: ignore[attr-defined] # a full transport

    # ------------------------------------------------------------------ requests

    async def get(self, path: str) -> Answer:
        """Send a GET and wait for the response."""
        return await self.request("GET", path)

    async def post(self, path: str, body: bytes = b"") -> Answer:
        """Send a POST and wait for the response."""
        return await self.request("POST", path, body)

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Headers = ()
    ) -> Answer:
        """Send a request and wait for the response."""
        return await (await self.open(method, path, body, headers)).answer()

    async def stream(self, path: str, body: bytes = b"") -> AsyncGenerator[bytes, None]:
        """POST and yield the response's DATA frames; leaving the loop resets the stream."""
        call = await self.open("POST", path, body)
        try:
            async for chunk in call:
                yield chunk
        finally:
            if not call.ended:
                await call.reset()

    async def open(
        self,
        method: str,
        path: str,
        body: bytes | None = b"",
        headers: Headers = (),
        *,
        authority: str = "unused",
    ) -> Call:
        """Send a request and return at once; a body of None leaves the request open."""
        call = Call(self, self.h2.get_next_available_stream_id())
        self._calls[call.stream_id] = call
        fields = [
            (":method", method),
            (":scheme", "https"),
            (":authority", authority),
            (":path", path),
            *headers,
        ]
        self.h2.send_headers(call.stream_id, fields, end_stream=body == b"")
        await self.flush()
        if body:
            await self.upload(call, body)
        return call

    async def upload(self, call: Call, body: bytes, *, end: bool = True) -> None:
        """Send (more of) a request body as the windows allow."""
        while body and not call.ended:
            room = min(
                self.h2.local_flow_control_window(call.stream_id), self.h2.max_outbound_frame_size
            )
            if room <= 0:
                self._window_changed.clear()
                await self._window_changed.wait()
                continue
            piece, body = body[:room], body[room:]
            self.h2.send_data(call.stream_id, piece, end_stream=end and not body)
            await self.flush()

    # ------------------------------------------------------------------ the connection

    def acknowledge(self, stream_id: int, size_bytes: int) -> None:
        """Give window back to the server."""
        if size_bytes and not self.gone.is_set():
            self.h2.acknowledge_received_data(size_bytes, stream_id)
            self._write_pending()

    async def ping(self, payload: bytes = b"12345678") -> None:
        """Send a PING; see `pings`."""
        self.h2.ping(payload)
        await self.flush()

    async def flush(self) -> None:
        """Seal and send what `h2` has queued."""
        self._write_pending()
        await self.writer.drain()

    async def send_plaintext(self, plaintext: bytes) -> None:
        """Seal any bytes, HTTP/2 or not."""
        self.writer.write(self.noise.seal(plaintext))
        await self.writer.drain()

    def _write_pending(self) -> None:
        if out := self.h2.data_to_send():
            self.writer.write(self.noise.seal(out))

    async def _read(self) -> None:
        try:
            while data := await self.reader.read(1 << 16):
                for event in self.h2.receive_data(self.noise.receive(data)):
                    self._handle(event)
                self._write_pending()
        except OSError:
            pass
        finally:
            self.gone.set()
            self._window_changed.set()
            for call in self._calls.values():
                if not call.ended:
                    call.feed(ConnectionError("the connection ended"))

    def _handle(self, event: Event) -> None:
        call = self._calls.get(getattr(event, "stream_id", 0) or 0)
        match event:
            case ResponseReceived(headers=headers) if call:
                call.begin(headers)
            case DataReceived(data=data, flow_controlled_length=size) if call:
                call.feed((data or b"", size or 0))
            case StreamEnded() if call:
                call.feed(None)
            case StreamReset(error_code=code) if call and not call.ended:
                call.feed(StreamWasReset(int(code or 0)))
            case PingAckReceived(ping_data=payload):
                self.pings.append(payload or b"")
            case ConnectionTerminated(error_code=code):
                self.goaway = int(code or 0)
            case _:
                pass
        if isinstance(event, (WindowUpdated, StreamReset, StreamEnded)):
            self._window_changed.set()


async def upgrade(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    initiator: Any,
    forwarded_for: str = "",
) -> Transport:
    """POST /ts2021 with the initiation and finish the handshake.

    Raises:
        UpgradeRefused: another status than 101, or an error frame.
    """
    handshake = base64.b64encode(initiator.message).decode()
    forwarded = f"X-Forwarded-For: {forwarded_for}\r\n" if forwarded_for else ""
    writer.write(
        (
            f"POST /ts2021 HTTP/1.1\r\nHost: control.test\r\n{forwarded}"
            "Upgrade: tailscale-control-protocol\r\nConnection: upgrade\r\n"
            f"X-Tailscale-Handshake: {handshake}\r\nContent-Length: 0\r\n\r\n"
        ).encode()
    )
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status = int(head.split(" ", 2)[1])
    if status != 101:
        raise UpgradeRefused(status, (await reader.read()).decode())
    if "\r\nUpgrade: tailscale-control-protocol\r\n" not in head:
        raise UpgradeRefused(status, "the Upgrade header is not spelled as Go wants it")
    first = await reader.readexactly(1)
    if first == b"\x03":
        size = int.from_bytes(await reader.readexactly(2), "big")
        raise UpgradeRefused(status, (await reader.readexactly(size)).decode())
    transport: Transport = initiator.finish(first + await reader.readexactly(RESPONSE_BYTES - 1))
    return transport
