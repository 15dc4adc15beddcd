from __future__ import annotations

import asyncio
import base64
import os
from typing import Any

import pytest

from mergescale.control.limits import Limits
from mergescale.kernel.keys import PrivateKey
from mergescale.wire.noise import initiate, public_key
from support.aio import aio, turns, until
from support.bridged import Dripping, answer, echo, read_body
from support.noise_client import StreamWasReset, UpgradeRefused
from support.noise_server import MACHINE, SERVER, serving

pytestmark = pytest.mark.enable_socket


@aio
async def test_a_client_registers_and_polls_on_one_connection() -> None:
    """Register, a map stream and lite updates share a channel, each chunk as it is written."""
    dripping = Dripping()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["state"] == {"peer": public_key(MACHINE), "capability_version": 131}
        await (dripping if scope["path"] == "/machine/map" else echo)(scope, receive, send)

    async with serving(app) as at, at.client(version=131) as client:
        assert (await client.post("/machine/register", b"{}")).body == b"{}"
        poll = await client.open("POST", "/machine/map", b"{}")
        assert await poll.started() == 200
        for number in range(3):
            dripping.chunks.put_nowait(b"map %d" % number)
            assert await poll.chunk() == b"map %d" % number
            assert (await client.post("/lite", b"x" * number)).status == 200
        await poll.reset()
        await dripping.ended.wait()


@aio
async def test_large_bodies_pass_in_both_directions() -> None:
    """A megabyte up, a megabyte down, through records of 4096 bytes and 64 KiB windows."""
    body = os.urandom(1 << 20)
    async with serving(echo) as at, at.client(window_bytes=65_535) as client:
        assert (await client.post("/echo", body)).body == body
        downloads = [client.get("/big/300000") for _ in range(4)]
        for got in await asyncio.gather(*downloads):
            assert got.body == b"x" * 300_000


@aio
async def test_connections_of_one_machine_do_not_disturb_each_other() -> None:
    """A second connection for c2n replies leaves the map stream of the first alone."""
    app = Dripping()
    async with serving(app) as at, at.client() as first, at.client() as second:
        poll = await first.open("POST", "/machine/map")
        other = await second.open("POST", "/machine/map")
        assert (await poll.started(), await other.started()) == (200, 200)
        await other.reset()
        await app.ended.wait()
        app.chunks.put_nowait(b"still here")
        assert await poll.chunk() == b"still here"


@aio
async def test_old_clients_see_the_minimum() -> None:
    """101, then an error frame that the client shows to its user."""
    async with serving(echo) as at:
        with pytest.raises(UpgradeRefused, match="capability version 106") as refused:
            async with at.client(version=105):
                pass
        assert refused.value.status == 101


@aio
async def test_bytes_behind_the_head_reach_noise() -> None:
    """A client whose first record arrives with the end of its head loses nothing.

    Its keys need the response, so the bytes cannot be a valid record: the channel must see them
    and fail on them, where a lost byte would leave it waiting.
    """
    started = initiate(
        version=130,
        static=MACHINE,
        ephemeral=PrivateKey(b"\x03" * 32),
        server=public_key(SERVER),
    )
    head = (
        b"POST /ts2021 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
        b"Upgrade: Tailscale-Control-Protocol\r\nX-Tailscale-Handshake: "
        + base64.b64encode(started.message)
        + b"\r\n\r\n"
    )
    async with serving(echo) as at:
        reply = await at.raw(head + b"\x04\x00\x10" + b"\0" * 16)
        assert reply.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert at.door.pending == 0


@aio
async def test_records_may_arrive_a_byte_at_a_time() -> None:
    """Neither TCP segments nor records have to do with frames."""
    async with serving(echo) as at, at.client() as client:
        await client.get("/")  # SETTINGS are exchanged: nothing else wants to write now
        call = await client.open("GET", "/scope", None)
        client.h2.end_stream(call.stream_id)
        for byte in client.noise.seal(client.h2.data_to_send()):
            client.writer.write(bytes([byte]))
            await client.writer.drain()
            await turns(1)
        assert (await call.answer()).status == 200


@pytest.mark.parametrize("bad", [b"\x04\x00\x20" + b"\0" * 32, b"\x03\x00\x01x", b"\x04\xff\xff"])
@aio
async def test_a_bad_record_ends_the_connection(bad: bytes) -> None:
    """A wrong tag, type or length is the end; nothing but records is sent back."""
    app = Dripping()
    async with serving(app) as at, at.client() as client:
        await (await client.open("POST", "/machine/map")).started()
        client.writer.write(bad)
        app.chunks.put_nowait(b"written in the same moment")
        await client.gone.wait()
        await app.ended.wait()


@aio
async def test_a_silent_peer_is_dropped() -> None:
    """Who holds no key for its handshake cannot hold a socket either."""
    async with serving(echo, limits=Limits(proof_s=0.01)) as at:
        started = initiate(
            version=130, static=MACHINE, ephemeral=PrivateKey(b"\x03" * 32), server=at.key
        )
        head = (
            b"POST /ts2021 HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n"
            b"Upgrade: tailscale-control-protocol\r\nX-Tailscale-Handshake: "
        )
        reply = await at.raw(head + base64.b64encode(started.message) + b"\r\n\r\n")
        assert reply.startswith(b"HTTP/1.1 101 ")
        assert at.door.pending == 0
        assert at.edge.state.connections == set()


@aio
async def test_an_idle_connection_is_closed_in_order() -> None:
    """Without a request for idle_s the server says GOAWAY; with one open it never does."""
    app = Dripping()
    async with serving(app, limits=Limits(idle_s=0.01)) as at:
        async with at.client() as idle:
            await idle.gone.wait()
            assert idle.goaway == 0
        async with at.client() as busy:
            poll = await busy.open("POST", "/machine/map")
            await poll.started()
            async with at.client() as witness:
                await witness.gone.wait()
            app.chunks.put_nowait(b"here")
            assert await poll.chunk() == b"here"


@aio
async def test_a_client_that_never_reads_is_dropped() -> None:
    """A suspended laptop ends at the deadline, with its handler, whatever is to be sent."""
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await read_body(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while (await asyncio.wait_for(_next(receive), None)) is None:
                await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
        finally:
            ended.set()

    async def _next(receive: Any) -> Any:
        pending = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        if pending.done():
            return pending.result()
        pending.cancel()
        return None

    limits = Limits(stall_s=0.05, orphan_s=0)
    async with serving(app, limits=limits) as at, at.client(window_bytes=1 << 30) as client:
        await client.open("POST", "/machine/map")
        await client.stop_reading()
        await ended.wait()
        await until(lambda: not at.edge.state.connections)


@aio
async def test_a_vanished_client_ends_its_handlers() -> None:
    """When the socket closes, every stream's handler hears it at once."""
    app = Dripping()
    async with serving(app) as at:
        async with at.client() as client:
            await (await client.open("POST", "/machine/map")).started()
        await app.ended.wait()
        await turns()
        assert at.edge.state.tasks == set()


@aio
async def test_leaving_a_stream_resets_it() -> None:
    """The client's own generator form ends the server's handler too."""
    app = Dripping()
    async with serving(app) as at, at.client() as client:
        app.chunks.put_nowait(b"one")
        stream = client.stream("/machine/map", b"{}")
        assert await anext(stream) == b"one"
        await stream.aclose()
        await app.ended.wait()


@aio
async def test_a_reset_is_told_to_the_client() -> None:
    """A handler that ends half-way is an error at the client, not a short body."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    async with serving(app) as at, at.client() as client:
        with pytest.raises(StreamWasReset):
            await client.get("/")


@aio
async def test_garbage_inside_noise_is_answered_goaway() -> None:
    """Plaintext that is no HTTP/2 ends the connection in order."""
    async with serving(echo) as at, at.client() as client:
        await client.get("/")
        await client.send_plaintext(b"\0\0\x05\x06\0\0\0\0\0hello")
        await client.gone.wait()
        assert client.goaway == 6  # FRAME_SIZE_ERROR


@aio
async def test_many_connections_at_once() -> None:
    """Two hundred clients poll at the same time and each gets its own answer."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await read_body(receive)
        body = str(scope["state"]["peer"]).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await receive()

    everyone = asyncio.Barrier(200)

    async with serving(app) as at, asyncio.TaskGroup() as group:

        async def one(machine: PrivateKey) -> None:
            async with at.client(machine) as client:
                call = await client.open("POST", "/machine/map")
                assert await call.chunk() == str(public_key(machine)).encode()
                await everyone.wait()

        for _ in range(200):
            group.create_task(one(PrivateKey(os.urandom(32))))


@aio
async def test_requests_without_bodies_answer_while_others_wait() -> None:
    """A handler that waits blocks nobody else on its connection."""
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/held":
            await gate.wait()
        await answer(send, scope["path"].encode())

    async with serving(app) as at, at.client() as client:
        held = await client.open("POST", "/held", b"x" * 10_000)
        for number in range(5):
            assert (await client.get(f"/{number}")).body == b"/%d" % number
        gate.set()
        assert (await held.answer()).body == b"/held"
