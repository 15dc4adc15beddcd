from __future__ import annotations

import asyncio
import os

import pytest

from mergescale.kernel.keys import NodeKey, PrivateKey
from mergescale.relay.channel import Channel
from mergescale.relay.limits import Limits
from mergescale.relay.service import DerpService
from mergescale.wire.derp import (
    ClientInfo,
    FrameType,
    PeerGoneReason,
    ServerInfo,
    boxes,
    frames,
    node_key,
)
from mergescale.wire.derp.client import Connected, KeepAliveReceived, PacketReceived, PeerGone
from support.fake_time import in_fake_time
from support.relayed import Client, FixedEntropy, MemoryPipe

RELAY = PrivateKey(b"\x11" * 32)
ALICE = PrivateKey(b"\x22" * 32)
BOB = PrivateKey(b"\x33" * 32)
CAROL = PrivateKey(b"\x44" * 32)
DISCO = b"TS\xf0\x9f\x92\xac" + bytes(56)


def everybody(_: NodeKey) -> bool:
    return True


def relay(limits: Limits | None = None, jitter: int = 0) -> DerpService:
    return DerpService(RELAY, everybody, FixedEntropy(jitter), limits)


def admitted(service: DerpService, private: PrivateKey) -> Client:
    client = Client(service, private)
    assert client.exchange() == [Connected(node_key(RELAY), ServerInfo())]
    return client


@in_fake_time
async def test_packets_reach_their_receiver_under_the_senders_key() -> None:
    """What Alice sends to Bob arrives at Bob, from Alice, and nowhere else."""
    service = relay()
    alice, bob, carol = (admitted(service, one) for one in (ALICE, BOB, CAROL))
    alice.send(bob, b"one", b"two")
    expected = [PacketReceived(alice.key, b"one"), PacketReceived(alice.key, b"two")]
    assert (alice.exchange(), bob.exchange(), carol.exchange()) == ([], expected, [])


@in_fake_time
async def test_a_chunk_is_one_write_per_receiver() -> None:
    """However many packets a chunk has, each receiver is written to once."""
    service = relay()
    alice, bob, carol = (admitted(service, one) for one in (ALICE, BOB, CAROL))
    for number in range(50):
        alice.session.send((bob if number % 2 else carol).key, b"%d" % number)
    alice.channel.data_received(alice.session.take())
    assert (len(bob.pipe.writes), len(carol.pipe.writes)) == (1, 1)
    assert (len(bob.exchange()), len(carol.exchange())) == (25, 25)


@in_fake_time
async def test_what_is_sent_ahead_of_admission_arrives() -> None:
    """Frames in the same chunk as the ClientInfo are handled after it."""
    service = relay()
    bob = admitted(service, BOB)
    box = boxes.seal_client_info(
        ClientInfo(), private=ALICE, server=node_key(RELAY), nonce=bytes(24)
    )
    alice = Client(service, ALICE)
    hello = frames.encode(FrameType.CLIENT_INFO, box)
    alice.channel.data_received(hello + frames.send_packet(bob.key, b"early"))
    assert bob.exchange() == [PacketReceived(alice.key, b"early")]


@pytest.mark.parametrize(("jitter", "every_s"), [(0x00, 60.0), (0x80, 62.509804), (0xFF, 65.0)])
@in_fake_time
async def test_keepalives_come_each_minute_and_up_to_five_seconds(
    jitter: int, every_s: float
) -> None:
    """An idle client is written to every 60 s plus its own part of 5 s, and is never dropped."""
    client = admitted(relay(jitter=jitter), ALICE)
    await asyncio.sleep(200)
    times = [at for at, _ in client.pipe.writes]
    assert times == pytest.approx([every_s, 2 * every_s, 3 * every_s], abs=1e-3)
    assert client.exchange() == [KeepAliveReceived()] * 3
    assert client.pipe.ended == []


@in_fake_time
async def test_who_says_nothing_is_dropped_after_ten_seconds() -> None:
    """Without a ClientInfo the socket is cut at the deadline, and counts no more."""
    service = relay()
    client = Client(service, ALICE)
    await asyncio.sleep(9.9)
    assert (client.pipe.ended, service.doors.pending) == ([], 1)
    await asyncio.sleep(100)
    assert (client.pipe.ended, service.doors.pending) == ([(10.0, "abort")], 0)


@in_fake_time
async def test_half_a_client_info_does_not_stop_the_deadline() -> None:
    """A client that drips its first frame is cut like a silent one."""
    client = Client(relay(), ALICE)
    client.channel.data_received(b"\x02\x00\x00\x01\x00")
    await asyncio.sleep(5)
    client.channel.data_received(b"\x00")
    await asyncio.sleep(6)
    assert client.pipe.ended == [(10.0, "abort")]


@in_fake_time
async def test_a_full_socket_waits_and_then_gets_the_newest() -> None:
    """While paused nothing is written; after that the newest 32 packets arrive in order."""
    service = relay()
    alice, bob = admitted(service, ALICE), admitted(service, BOB)
    bob.channel.pause_writing()
    for number in range(40):
        alice.send(bob, b"%d" % number)
    assert bob.pipe.writes == []
    bob.channel.resume_writing()
    assert bob.exchange() == [PacketReceived(alice.key, b"%d" % n) for n in range(8, 40)]
    assert service.counters.dropped_full == 8
    await asyncio.sleep(10)
    assert bob.pipe.ended == []


@in_fake_time
async def test_a_socket_that_takes_nothing_is_cut() -> None:
    """Two seconds without progress end a full connection, and its peers are told."""
    service = relay()
    alice, bob = admitted(service, ALICE), admitted(service, BOB)
    bob.send(alice, b"hello")
    alice.exchange()
    bob.pipe.waiting = 1000
    bob.channel.pause_writing()
    await asyncio.sleep(30)
    assert bob.pipe.ended == [(2.0, "abort")]
    assert alice.exchange() == [PeerGone(bob.key, PeerGoneReason.DISCONNECTED)]


@in_fake_time
async def test_a_slow_socket_is_left_alone() -> None:
    """A link that takes something every two seconds keeps its connection."""
    bob = admitted(relay(), BOB)
    bob.pipe.waiting = 1000
    bob.channel.pause_writing()
    for _ in range(20):
        await asyncio.sleep(1.9)
        bob.pipe.waiting -= 1
    assert bob.pipe.ended == []
    await asyncio.sleep(5)
    assert [how for _, how in bob.pipe.ended] == ["abort"]


@in_fake_time
async def test_a_socket_full_before_admission_is_paused_after_it() -> None:
    """The relay does not write to a client whose transport was full when it was admitted."""
    service = relay()
    alice = admitted(service, ALICE)
    bob = Client(service, BOB)
    bob.channel.pause_writing()
    bob.exchange()
    alice.send(bob, b"later")
    assert bob.pipe.writes == []
    bob.channel.resume_writing()
    assert bob.exchange() == [PacketReceived(alice.key, b"later")]


@in_fake_time
async def test_the_transport_is_told_its_high_water_mark() -> None:
    """Without it, asyncio's TLS would hold half a megabyte for each client."""
    assert Client(relay(Limits(high_water_bytes=4321)), ALICE).pipe.high == 4321


@pytest.mark.parametrize(
    "bad",
    [
        b"\x04\x00\x00\x00\x01x",  # shorter than a key
        b"\x04\x00\x02\x00\x00",  # longer than a packet may be
        b"\x10\x00\x00\x00\x00",  # a mesh frame
        b"\x7f\xff\xff\xff\xff",  # 4 GiB of an unknown type
    ],
)
@in_fake_time
async def test_a_bad_frame_ends_one_connection(bad: bytes) -> None:
    """The sender is cut, others are told and stay, and what follows is not looked at."""
    service = relay()
    alice, bob = admitted(service, ALICE), admitted(service, BOB)
    alice.send(bob, b"hello")
    bob.exchange()
    alice.channel.data_received(bad)
    alice.channel.data_received(frames.send_packet(bob.key, b"after"))
    assert [how for _, how in alice.pipe.ended] == ["abort"]
    assert bob.exchange() == [PeerGone(alice.key, PeerGoneReason.DISCONNECTED)]
    assert (bob.pipe.ended, service.connected) == ([], 1)


@in_fake_time
async def test_garbage_instead_of_a_client_info_ends_the_connection() -> None:
    """Nobody gets past the handshake without a box that opens."""
    service = relay()
    client = Client(service, ALICE)
    client.channel.data_received(frames.encode(FrameType.CLIENT_INFO, os.urandom(200)))
    assert [how for _, how in client.pipe.ended] == ["abort"]
    assert (service.connected, service.doors.pending) == (0, 0)


@in_fake_time
async def test_only_path_discovery_hears_of_unknown_peers() -> None:
    """A disco packet for nobody is answered "not here", three times at once; others never."""
    service = relay()
    alice = admitted(service, ALICE)
    nobody = Client(relay(), CAROL)
    alice.send(nobody, b"wireguard")
    assert alice.exchange() == []
    alice.send(nobody, *[DISCO] * 10)
    assert alice.exchange() == [PeerGone(nobody.key, PeerGoneReason.NOT_HERE)] * 3
    await asyncio.sleep(1)
    alice.send(nobody, *[DISCO] * 10)
    assert alice.exchange() == [PeerGone(nobody.key, PeerGoneReason.NOT_HERE)]


@in_fake_time
async def test_an_orderly_end_closes_and_cuts_who_does_not_read() -> None:
    """Shutdown closes; a client that leaves bytes in its socket is cut after the write timeout."""
    service = relay()
    alice, bob = admitted(service, ALICE), admitted(service, BOB)
    bob.pipe.waiting = 1000
    alice.channel.shutdown()
    alice.channel.connection_lost(None)
    bob.channel.shutdown()
    assert service.connected == 0
    await asyncio.sleep(10)
    assert alice.pipe.ended == [(0.0, "close")]
    assert bob.pipe.ended == [(0.0, "close"), (2.0, "abort")]


class LostPipe(MemoryPipe):
    """asyncio's TLS transport between the loss of its socket and `connection_lost`."""

    def get_write_buffer_size(self) -> int:
        if self.ended:
            raise AttributeError("the transport has no protocol any more")
        return self.waiting


@in_fake_time
async def test_an_orderly_end_survives_a_socket_lost_just_before() -> None:
    """A client that vanishes in the very moment the server stops does not break the stop."""
    service = relay()
    bob = admitted(service, BOB)
    bob.channel._pipe = LostPipe()
    bob.channel.shutdown()
    bob.channel.connection_lost(None)
    await asyncio.sleep(10)
    assert (service.connected, bob.open_channels) == (0, set())


@in_fake_time
async def test_a_lost_connection_leaves_nothing_behind() -> None:
    """After the socket is gone no timer fires, nobody is registered and the end is not told."""
    service = relay()
    bob = admitted(service, BOB)
    assert bob.open_channels == {bob.channel}
    bob.channel.pause_writing()
    bob.channel.connection_lost(ConnectionResetError())
    await asyncio.sleep(300)
    assert (bob.open_channels, service.connected, bob.pipe.ended) == (set(), 0, [])
    assert bob.pipe.writes == []


@in_fake_time
async def test_a_channel_that_never_began_is_not_counted() -> None:
    """The edge may make a channel and lose its socket before it is connected."""
    service = relay()
    Channel(service, set(), stall_s=2.0).connection_lost(None)
    assert service.doors.pending == 0


@in_fake_time
async def test_the_greeting_goes_out_with_the_first_frame() -> None:
    """The 101 and ServerKey are one write."""
    pipe = MemoryPipe()
    Channel(relay(), set(), stall_s=2.0, greeting=b"HTTP/1.1 101\r\n\r\n").connection_made(pipe)
    greeting = b"HTTP/1.1 101\r\n\r\n" + frames.server_key(node_key(RELAY))
    assert pipe.writes == [(0.0, greeting)]
