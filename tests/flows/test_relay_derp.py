"""Clients and the relay over real sockets, through the edge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import uvloop
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from mergescale.relay.channel import Channel
from mergescale.relay.limits import Limits
from mergescale.server.certificate import RelayCertificate, relay_certificate
from mergescale.wire.derp import ClientInfo, FrameType, PeerGoneReason, boxes, frames, node_key
from mergescale.wire.derp.client import ClientEvent, PacketReceived, PeerGone, PongReceived
from support.aio import aio, turns
from support.derp_client import (
    DerpClient,
    NotConnected,
    StreamLink,
    open_link,
    open_websocket,
    pinned,
    request_head,
    unverified,
    upgrade,
)
from support.relay_server import ALICE, BOB, CAROL, RELAY, Known, Relaying, relaying

pytestmark = pytest.mark.enable_socket

DISCO = b"TS\xf0\x9f\x92\xac" + bytes(56)
BIG = b"x" * 32_768
RELAY_KEY = node_key(RELAY)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> RelayCertificate:
    """The relay's own pinned certificate, with its meta certificate."""
    return relay_certificate(
        tmp_path_factory.mktemp("relay") / "relay.pem",
        host="127.0.0.1",
        relay_key=RELAY_KEY,
        passphrase=b"relay",
        now=datetime.now(UTC),  # noqa: TID251 - TLS compares it with the machine's clock
    )


def client_info() -> bytes:
    """Return Alice's first frame."""
    box = boxes.seal_client_info(ClientInfo(), private=ALICE, server=RELAY_KEY, nonce=bytes(24))
    return frames.encode(FrameType.CLIENT_INFO, box)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop work until something became true; the test's deadline ends the wait."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0)


async def exchange_both_ways(one: DerpClient, other: DerpClient) -> None:
    one.send(other.key, b"there", BIG)
    assert await other.packet() == (one.key, b"there")
    assert await other.packet() == (one.key, BIG)
    other.send(one.key, b"back")
    assert await one.packet() == (other.key, b"back")


# ---------------------------------------------------------------------- every way in


@pytest.mark.parametrize("websocket", [False, True])
@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_clients_of_every_kind_exchange_packets(
    loop: Callable[[], asyncio.AbstractEventLoop],
    encrypted: bool,
    websocket: bool,
    certificate: RelayCertificate,
) -> None:
    """Native and WebSocket clients, plain and TLS, reach a native one, on either event loop."""

    async def flow() -> None:
        tls = unverified() if encrypted else None
        async with (
            asyncio.timeout(10),
            relaying(certificate=certificate if encrypted else None) as at,
            at.client(ALICE, tls=tls, websocket=websocket) as alice,
            at.client(BOB, tls=tls) as bob,
        ):
            assert alice.server == RELAY_KEY
            await exchange_both_ways(alice, bob)
            alice.ping(b"12345678")
            assert await alice.event() == PongReceived(b"12345678")

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(flow())


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_fast_start_has_no_http_answer(encrypted: bool, certificate: RelayCertificate) -> None:
    """With the header, the first bytes back are ServerKey, and the frame behind the head counts."""

    @aio
    async def flow() -> None:
        tls = unverified() if encrypted else None
        async with (
            relaying(certificate=certificate if encrypted else None) as at,
            at.client(ALICE, tls=tls, fast_start=at.service.public_key) as alice,
            at.client(BOB, tls=tls) as bob,
        ):
            await exchange_both_ways(alice, bob)
            assert (at.service.doors.fast, at.service.doors.admitted) == (1, 2)

    flow()


@pytest.mark.parametrize("value", ["0", "true", ""])
@aio
async def test_only_the_value_one_is_a_fast_start(value: str) -> None:
    """Any other value is answered like a client that never heard of it."""
    async with relaying() as at:
        link = await open_link("127.0.0.1", at.port)
        await link.write(request_head(f"Derp-Fast-Start: {value}"))
        assert (await link.read()).startswith(b"HTTP/1.1 101 ")
        await link.close()


def test_tls_clients_see_the_pinned_certificate(certificate: RelayCertificate) -> None:
    """The certificate's digest is what the DERPMap tells, over TLS 1.3 and HTTP/1.1 only."""

    @aio
    async def flow() -> None:
        offering = unverified()
        offering.set_alpn_protocols(["h2", "http/1.1"])
        async with (
            relaying(certificate=certificate) as at,
            at.client(ALICE, tls=offering) as alice,
        ):
            assert isinstance(alice.link, StreamLink)
            peer = alice.link.writer.get_extra_info("ssl_object")
            pinned(certificate.pin, peer)
            assert (peer.version(), peer.selected_alpn_protocol()) == ("TLSv1.3", "http/1.1")

    flow()


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("token", ["DERP", "derp"])
@aio
async def test_the_answer_to_an_upgrade(method: str, token: str) -> None:
    """Any method and spelling is answered 101 with version and key, and ServerKey behind it."""
    async with relaying() as at:
        link = await open_link("127.0.0.1", at.port)
        await link.write(request_head(method=method, upgrade_to=token))
        head, _, rest = (await link.read()).partition(b"\r\n\r\n")
        status, *headers = head.decode().lower().split("\r\n")
        assert status == "http/1.1 101 switching protocols"
        assert sorted(headers) == [
            "connection: upgrade",
            f"derp-public-key: {RELAY_KEY.raw.hex()}",
            "derp-version: 2",
            "upgrade: derp",
        ]
        assert rest == frames.server_key(RELAY_KEY)
        await link.close()


@aio
async def test_an_absolute_target_is_the_same_path() -> None:
    """The Rust client asks for ``https://host/derp``."""
    async with relaying() as at:
        link = await open_link("127.0.0.1", at.port)
        head = request_head(method="POST").replace(b" /derp ", b" https://127.0.0.1:1/derp ")
        assert await upgrade(link, head) == frames.server_key(RELAY_KEY)
        await link.close()


@aio
async def test_frames_may_arrive_in_any_chunks() -> None:
    """Behind the head and a byte at a time, the bytes mean the same."""
    async with relaying() as at, at.client(BOB) as bob:
        link = await open_link("127.0.0.1", at.port)
        hello = client_info()
        await upgrade(link, request_head() + hello[:50])
        for byte in hello[50:] + frames.send_packet(bob.key, b"slowly"):
            await link.write(bytes([byte]))
            await turns(1)
        assert await bob.packet() == (node_key(ALICE), b"slowly")
        await link.close()


# ---------------------------------------------------------------------- who may come in


@pytest.mark.parametrize("websocket", [False, True])
@aio
async def test_a_node_is_let_in_as_soon_as_it_is_known(websocket: bool) -> None:
    """An unknown node is closed without a word; the same node is let in once it registered."""
    known = Known(BOB)
    async with relaying(known) as at, at.client(BOB) as bob:
        with pytest.raises(NotConnected):
            async with at.client(ALICE, websocket=websocket):
                pass
        assert at.service.doors.refused == 1
        known.keys.add(node_key(ALICE))
        async with at.client(ALICE, websocket=websocket) as alice:
            await exchange_both_ways(alice, bob)


@aio
async def test_a_broken_admission_lets_nobody_in_and_disturbs_nobody() -> None:
    """While the admission raises, new clients are refused and old ones go on."""
    known = Known(ALICE, BOB, CAROL)
    async with relaying(known) as at, at.client(ALICE) as alice, at.client(BOB) as bob:
        known.broken = True
        with pytest.raises(NotConnected):
            async with at.client(CAROL):
                pass
        await exchange_both_ways(alice, bob)


@pytest.mark.parametrize("websocket", [False, True])
@aio
async def test_a_deleted_node_loses_its_connection(websocket: bool) -> None:
    """After a recheck the node is gone, cannot come back, and its peer is told."""
    known = Known(ALICE, BOB)
    async with relaying(known) as at, at.client(BOB) as bob:
        async with at.client(ALICE, websocket=websocket) as alice:
            await exchange_both_ways(alice, bob)
            known.keys.discard(alice.key)
            assert at.service.recheck() == 1
            await alice.gone.wait()
            assert await bob.event() == PeerGone(alice.key, PeerGoneReason.DISCONNECTED)
        with pytest.raises(NotConnected):
            async with at.client(ALICE, websocket=websocket):
                pass


# ---------------------------------------------------------------------- who is gone


@aio
async def test_peers_are_told_when_someone_leaves_or_is_not_here() -> None:
    """Reason 0 to who got packets of it, reason 1 to who looks for it, nothing to others."""
    async with relaying() as at, at.client(BOB) as bob, at.client(CAROL) as carol:
        async with at.client(ALICE) as alice:
            await exchange_both_ways(alice, bob)
        assert await bob.event() == PeerGone(alice.key, PeerGoneReason.DISCONNECTED)
        bob.send(alice.key, b"wireguard", DISCO)
        assert await bob.event() == PeerGone(alice.key, PeerGoneReason.NOT_HERE)
        carol.ping(b"12345678")
        assert await carol.event() == PongReceived(b"12345678")


@aio
async def test_a_node_that_comes_back_is_reached_on_its_new_connection() -> None:
    """While the old socket is not known to be dead yet, packets go to the new one."""
    async with relaying() as at, at.client(BOB) as bob, at.client(ALICE) as old:
        await exchange_both_ways(bob, old)
        async with at.client(ALICE) as new:
            bob.send(new.key, b"new")
            assert await new.packet() == (bob.key, b"new")
            old.prefer(home=True)
            old.ping(b"12345678")
            assert await old.event() == PongReceived(b"12345678")
            bob.send(old.key, b"old")
            assert await old.packet() == (bob.key, b"old")


# ---------------------------------------------------------------------- who is slow


def waiting_bytes(at: Relaying) -> int:
    """Return the most bytes that wait in the transport of one channel."""
    channels = [one for one in at.edge.state.connections if isinstance(one, Channel)]
    return max(one._pipe.get_write_buffer_size() for one in channels if one._pipe)


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_slow_reader_costs_others_nothing(encrypted: bool, certificate: RelayCertificate) -> None:
    """Far more than fits is sent to a client that does not read.

    Others are served meanwhile, what waits is bounded, and when it reads again it gets the newest
    packets.
    """

    @aio
    async def flow() -> None:
        tls = unverified() if encrypted else None
        async with (
            relaying(
                limits=Limits(stall_s=10), certificate=certificate if encrypted else None
            ) as at,
            at.client(ALICE, tls=tls) as alice,
            at.client(BOB, tls=tls) as slow,
            at.client(CAROL, tls=tls) as carol,
        ):
            await slow.stop_reading()
            sent = 0
            while at.service.counters.dropped_full < 64:
                for _ in range(16):
                    alice.send(slow.key, b"%06d" % sent + BIG)
                    sent += 1
                alice.send(carol.key, b"meanwhile")
                assert await carol.packet() == (alice.key, b"meanwhile")
                assert waiting_bytes(at) < (128 << 10) + (512 << 10)
            slow.resume_reading()
            received: list[int] = []
            while not received or received[-1] < sent - 1:
                event = await slow.event()
                assert isinstance(event, PacketReceived)
                received.append(int(event.packet[:6]))
            assert received == sorted(received)
            assert received[-32:] == list(range(sent - 32, sent))
            assert sent - len(received) == at.service.counters.dropped_full

    flow()


@pytest.mark.parametrize("websocket", [False, True])
@aio
async def test_a_reader_that_stopped_is_cut(websocket: bool) -> None:
    """A client that takes nothing within the write timeout is gone; its peer is told."""
    limits = Limits(stall_s=0.1, message_stall_s=0.1)
    async with relaying(limits=limits) as at, at.client(ALICE) as alice:
        async with at.client(BOB, websocket=websocket) as stopped:
            stopped.send(alice.key, b"hello")
            await alice.packet()
            await stopped.stop_reading()
            event: ClientEvent = PongReceived(b"")
            while isinstance(event, PongReceived):
                alice.send(stopped.key, *[BIG] * 16)
                alice.ping(b"12345678")
                event = await alice.event()
        assert event == PeerGone(stopped.key, PeerGoneReason.DISCONNECTED)


@pytest.mark.parametrize("said", [b"", b"\x02\x00\x00\x00\x40half"])
@aio
async def test_a_silent_client_is_cut(said: bytes) -> None:
    """Who does not finish the handshake in time is closed and counts no more."""
    async with relaying(limits=Limits(handshake_s=0.02)) as at:
        link = await open_link("127.0.0.1", at.port)
        await upgrade(link)
        await link.write(said)
        assert await link.read() == b""
        await until(lambda: at.service.doors.pending == 0)
        await link.close()


@aio
async def test_a_bad_client_disturbs_nobody() -> None:
    """Garbage behind the upgrade ends that connection only."""
    async with relaying() as at, at.client(ALICE) as alice, at.client(BOB) as bob:
        link = await open_link("127.0.0.1", at.port)
        await upgrade(link, request_head() + b"\xff" * 1000)
        assert await link.read() == b""
        await exchange_both_ways(alice, bob)
        await link.close()


# ---------------------------------------------------------------------- the end


@aio
async def test_a_stopping_server_closes_everybody() -> None:
    """Native and WebSocket clients are closed within the grace, with nothing left behind."""
    async with (
        relaying() as at,
        at.client(ALICE) as alice,
        at.client(BOB, websocket=True) as bob,
    ):
        await exchange_both_ways(alice, bob)
        stopped = asyncio.create_task(at.edge.stop(5))
        await alice.gone.wait()
        await bob.gone.wait()
        await stopped
        assert (at.service.connected, at.service.doors.pending) == (0, 0)
        assert (at.edge.state.connections, at.edge.state.tasks) == (set(), set())


# ---------------------------------------------------------------------- WebSocket


@aio
async def test_message_boundaries_mean_nothing() -> None:
    """A frame may be spread over messages, and a message may hold many frames."""
    async with (
        relaying() as at,
        at.client(ALICE, websocket=True) as alice,
        at.client(BOB, websocket=True) as bob,
    ):
        packets = frames.send_packet(bob.key, b"one") + frames.send_packet(bob.key, b"two")
        for byte in packets[:60]:
            await alice.link.write(bytes([byte]))
        await alice.link.write(packets[60:])
        assert await bob.packet() == (alice.key, b"one")
        assert await bob.packet() == (alice.key, b"two")


@aio
async def test_a_websocket_needs_the_subprotocol() -> None:
    """Without ``derp`` it is not known what the client wants to speak: 400."""
    async with relaying() as at:
        for subprotocols in (None, [Subprotocol("chat")]):
            with pytest.raises(InvalidStatus) as refused:
                await connect_websocket(
                    f"ws://127.0.0.1:{at.port}/derp", subprotocols=subprotocols, proxy=None
                )
            assert refused.value.response.status_code == 400
            assert refused.value.response.body == b"the subprotocol derp was expected"


@aio
async def test_nothing_is_compressed() -> None:
    """A client that offers compression is answered without it."""
    async with relaying() as at:
        socket = await connect_websocket(
            f"ws://127.0.0.1:{at.port}/derp",
            subprotocols=[Subprotocol("derp")],
            compression="deflate",
            proxy=None,
        )
        assert socket.response is not None
        assert "Sec-WebSocket-Extensions" not in socket.response.headers
        assert await socket.recv() == frames.server_key(RELAY_KEY)
        await socket.close()


@aio
async def test_a_text_message_ends_the_connection() -> None:
    """Frames are binary; text is some other client's mistake."""
    # A deadline longer than this test's, so that it is not what ends the connection.
    async with relaying(limits=Limits(handshake_s=60)) as at:
        socket = await connect_websocket(
            f"ws://127.0.0.1:{at.port}/derp", subprotocols=[Subprotocol("derp")], proxy=None
        )
        await socket.recv()
        await socket.send("hello")
        await socket.wait_closed()
        await until(lambda: at.service.doors.pending == 0)


@aio
async def test_websockets_of_strangers_are_bounded_too() -> None:
    """Who did not say who it is takes a place, however it came, and loses it to who comes."""
    async with relaying(limits=Limits(pending=1)) as at:
        silent = await open_websocket("127.0.0.1", at.port)
        await silent.read()  # ServerKey
        async with at.client(ALICE):
            assert await silent.read() == b""
        link = await open_link("127.0.0.1", at.port)
        await upgrade(link)
        async with at.client(ALICE, websocket=True):
            assert await link.read() == b""
        await until(lambda: at.service.doors.pending == 0)
        await silent.close()
        await link.close()
