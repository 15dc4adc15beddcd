"""Our client is as strict as the Rust client."""

from __future__ import annotations

import pytest

from mergescale.kernel.errors import LocalProtocolError, RemoteProtocolError
from mergescale.kernel.keys import NodeKey, PrivateKey
from mergescale.wire.derp import (
    ClientSession,
    FrameType,
    PeerGoneReason,
    ServerInfo,
    frames,
    node_key,
)
from mergescale.wire.derp.boxes import seal_server_info
from mergescale.wire.derp.client import KeepAliveReceived, PacketReceived, PeerGone, State

RELAY = PrivateKey(b"\x09" * 32)
CLIENT = PrivateKey(b"\x02" * 32)
PEER = NodeKey(b"\xbb" * 32)


def server_info(version: int = 2) -> bytes:
    payload = seal_server_info(
        ServerInfo(version), private=RELAY, client=node_key(CLIENT), nonce=bytes(24)
    )
    return frames.encode(FrameType.SERVER_INFO, payload)


def waiting() -> ClientSession:
    session = ClientSession(CLIENT, bytes(24))
    session.receive(frames.server_key(node_key(RELAY)))
    session.take()
    return session


def opened() -> ClientSession:
    session = waiting()
    session.receive(server_info())
    return session


def test_server_key_may_carry_more() -> None:
    """Bytes after the key are for the future."""
    session = ClientSession(CLIENT, bytes(24))
    payload = frames.SERVER_KEY_MAGIC + node_key(RELAY).raw + b"more"
    assert session.receive(frames.encode(FrameType.SERVER_KEY, payload)) == []
    assert session.state is State.SERVER_INFO


def test_open_client_understands_the_relay() -> None:
    """Packets, departures and keepalives become events; a ping is answered at once."""
    session = opened()
    stream = frames.recv_packet(PEER.raw, bytes(32) + b"data") + frames.KEEP_ALIVE
    stream += frames.peer_gone(PEER.raw, PeerGoneReason.NOT_HERE) + frames.ping(b"12345678")
    assert session.receive(stream) == [
        PacketReceived(PEER, b"data"),
        KeepAliveReceived(),
        PeerGone(PEER, PeerGoneReason.NOT_HERE),
    ]
    assert session.take() == frames.pong(b"12345678")


@pytest.mark.parametrize(
    "stream",
    [frames.KEEP_ALIVE, frames.pong(bytes(8)), server_info(1), b"\x03\0\0\0\x03abc"],
    ids=["keepalive", "pong", "version", "garbage"],
)
def test_server_info_comes_first(stream: bytes) -> None:
    """After ClientInfo nothing but a ServerInfo of version 2 is accepted."""
    session = waiting()
    with pytest.raises(RemoteProtocolError):
        session.receive(stream)
    assert session.state is State.CLOSED
    with pytest.raises(LocalProtocolError):
        session.receive(b"")


@pytest.mark.parametrize(
    "stream",
    [
        b"\x14\0\0\0\0",
        b"\x15\0\0\0\x08" + bytes(8),
        b"\x08\0\0\0\x20" + bytes(32),
        b"\x08\0\0\0\x21" + bytes(32) + b"\x02",
        b"\x77\0\0\0\0",
        server_info(),
    ],
    ids=["health", "restarting", "no-reason", "reason-2", "unknown", "server-info"],
)
def test_frames_that_end_the_rust_client_end_ours(stream: bytes) -> None:
    """What a real client would die of, a test with ours notices."""
    session = opened()
    with pytest.raises(RemoteProtocolError):
        session.receive(stream)


@pytest.mark.parametrize(
    "payload",
    [b"DERP\xf0\x9f\x94\x92" + node_key(RELAY).raw, frames.SERVER_KEY_MAGIC + bytes(32), b""],
    ids=["magic", "zero-key", "empty"],
)
def test_client_knows_a_derp_server(payload: bytes) -> None:
    """Wrong magic, a low-order key or a short frame is no DERP server."""
    with pytest.raises(RemoteProtocolError):
        ClientSession(CLIENT, bytes(24)).receive(frames.encode(FrameType.SERVER_KEY, payload))


def test_nothing_is_sent_before_the_session_is_open() -> None:
    """Packets before ServerInfo are our own mistake."""
    with pytest.raises(LocalProtocolError):
        waiting().send(PEER, b"early")
