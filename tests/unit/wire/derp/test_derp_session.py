"""The server's side of one connection."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mergescale.kernel.errors import LocalProtocolError, RemoteProtocolError
from mergescale.kernel.keys import NodeKey, PrivateKey
from mergescale.wire.derp import (
    ClientInfo,
    ClientInfoReceived,
    ClientSession,
    FrameType,
    PacketsReceived,
    PingReceived,
    PreferenceReceived,
    ServerInfo,
    ServerSession,
    frames,
    node_key,
)
from mergescale.wire.derp.client import Connected, PongReceived
from mergescale.wire.derp.session import State

RELAY = PrivateKey(b"\x09" * 32)
CLIENT = PrivateKey(b"\x02" * 32)
PEER = NodeKey(b"\xbb" * 32)
NONCE = b"\x33" * 24
GOLDEN: dict[str, str] = json.loads(
    (Path(__file__).parents[3] / "corpus" / "derp" / "handshake.json").read_text()
)
CLIENT_INFO = bytes.fromhex(GOLDEN["client_info"])


def opened() -> ServerSession:
    """Return a session whose client was admitted, with nothing left to send."""
    session = ServerSession(RELAY)
    session.receive(CLIENT_INFO)
    session.admit(NONCE)
    session.take()
    return session


@pytest.mark.parametrize("dialect", ["client_info", "client_info_rust"])
def test_handshake_follows_the_transcript(dialect: str) -> None:
    """ServerKey, ClientInfo in Go's and Rust's spelling, ServerInfo: byte for byte."""
    session = ServerSession(RELAY)
    assert session.take().hex() == GOLDEN["server_key"]
    events = session.receive(bytes.fromhex(GOLDEN[dialect]))
    key = NodeKey(bytes.fromhex(GOLDEN["client_public"]))
    assert events == [ClientInfoReceived(key, ClientInfo(2, can_ack_pings=True))]
    assert (session.state, session.take()) == (State.DECIDING, b"")
    assert session.admit(NONCE) == []
    assert (session.state, session.take().hex()) == (State.OPEN, GOLDEN["server_info"])


def test_our_client_follows_the_transcript() -> None:
    """The client sends the recorded ClientInfo and accepts the recorded ServerInfo."""
    client = ClientSession(CLIENT, bytes.fromhex(GOLDEN["client_nonce"]))
    assert client.receive(bytes.fromhex(GOLDEN["server_key"])) == []
    assert client.take().hex() == GOLDEN["client_info"]
    events = client.receive(bytes.fromhex(GOLDEN["server_info"]))
    assert events == [Connected(node_key(RELAY), ServerInfo(2))]


def test_packets_sent_ahead_wait_for_admission() -> None:
    """A client that does not wait for ServerInfo loses nothing and learns nothing early."""
    session = ServerSession(RELAY)
    session.take()
    ahead = frames.send_packet(PEER, b"early") + frames.ping(b"12345678")
    assert len(session.receive(CLIENT_INFO + ahead[:20])) == 1
    assert session.receive(ahead[20:]) == []
    assert session.take() == b""
    assert session.admit(NONCE) == [
        PingReceived(b"12345678"),
        PacketsReceived([PEER.raw + b"early"]),
    ]


def test_too_much_sent_ahead_is_refused() -> None:
    """A client may not fill memory while it is not admitted."""
    session = ServerSession(RELAY)
    session.receive(CLIENT_INFO)
    session.receive(bytes(256 * 1024))
    with pytest.raises(RemoteProtocolError):
        session.receive(b"\0")
    assert session.state is State.CLOSED


def test_refused_client_gets_no_byte() -> None:
    """Refusal is a disconnect: nothing is sent and the session is over."""
    session = ServerSession(RELAY)
    session.take()
    session.receive(CLIENT_INFO)
    session.refuse()
    assert (session.state, session.take()) == (State.CLOSED, b"")
    with pytest.raises(LocalProtocolError):
        session.receive(b"")


def test_packets_of_a_chunk_come_as_one_event() -> None:
    """All packets of one read are handed over together, in their order."""
    payloads = [PEER.raw + bytes([number]) for number in range(40)]
    stream = b"".join(frames.encode(FrameType.SEND_PACKET, payload) for payload in payloads)
    assert opened().receive(stream) == [PacketsReceived(payloads)]


def test_long_ping_is_answered_with_its_first_eight_bytes() -> None:
    """Pings of 8 to 1000 bytes are accepted; eight count."""
    events = opened().receive(frames.ping(b"12345678" + bytes(992)))
    assert events == [PingReceived(b"12345678")]


def test_preference_is_told() -> None:
    """NotePreferred says home or not."""
    stream = frames.note_preferred(home=True) + frames.note_preferred(home=False)
    assert opened().receive(stream) == [PreferenceReceived(True), PreferenceReceived(False)]


@pytest.mark.parametrize("kind", [0x00, 0x01, 0x02, 0x03, 0x05, 0x06, 0x08, 0x13, 0x14, 0x77])
def test_other_frames_are_skipped(kind: int) -> None:
    """Frames that mean nothing to a server do not disturb those that do."""
    stream = bytes([kind]) + b"\0\0\0\x03abc" + frames.ping(b"12345678")
    assert opened().receive(stream) == [PingReceived(b"12345678")]


@pytest.mark.parametrize(
    "stream",
    [
        frames.encode(FrameType.SEND_PACKET, bytes(31)),
        frames.encode(FrameType.SEND_PACKET, bytes(32 + 65537)),
        frames.encode(FrameType.PING, bytes(7)),
        frames.encode(FrameType.PING, bytes(1001)),
        frames.encode(FrameType.NOTE_PREFERRED),
        frames.encode(FrameType.NOTE_PREFERRED, bytes(2)),
        frames.encode(FrameType.FORWARD_PACKET, bytes(64)),
        frames.encode(FrameType.WATCH_CONNS),
        frames.encode(FrameType.CLOSE_PEER, bytes(32)),
        b"\x77\xff\xff\xff\xff",
    ],
    ids=[
        "send-short",
        "send-long",
        "ping-short",
        "ping-long",
        "preferred-short",
        "preferred-long",
        "forward",
        "watch",
        "close-peer",
        "huge",
    ],
)
def test_bad_frame_closes_an_open_session(stream: bytes) -> None:
    """A frame of wrong size, or for mesh peers, ends the connection for good."""
    session = opened()
    with pytest.raises(RemoteProtocolError):
        session.receive(stream)
    assert session.state is State.CLOSED
    with pytest.raises(LocalProtocolError):
        session.receive(frames.KEEP_ALIVE)


@pytest.mark.parametrize("kind", sorted({*FrameType, 0x00, 0x77} - {FrameType.CLIENT_INFO}))
def test_first_frame_must_be_client_info(kind: int) -> None:
    """Anything else in its place is refused at its header."""
    session = ServerSession(RELAY)
    with pytest.raises(RemoteProtocolError):
        session.receive(bytes([kind]) + b"\0\0\0\0")
    assert session.state is State.CLOSED


@pytest.mark.parametrize("size", [55, 256 * 1024 + 1])
def test_client_info_has_a_sane_size(size: int) -> None:
    """A ClientInfo has 56 bytes to 256 KiB."""
    with pytest.raises(RemoteProtocolError):
        ServerSession(RELAY).receive(b"\x02" + size.to_bytes(4, "big"))


def test_admission_is_decided_once() -> None:
    """Nobody can be admitted or refused before asking, or twice."""
    for session in (ServerSession(RELAY), opened()):
        with pytest.raises(LocalProtocolError):
            session.admit(NONCE)
        with pytest.raises(LocalProtocolError):
            session.refuse()


def test_client_and_server_talk() -> None:
    """Our client's packets, pings and preference arrive at our server."""
    session = ServerSession(RELAY)
    client = ClientSession(CLIENT, NONCE)
    client.receive(session.take())
    session.receive(client.take())
    session.admit(NONCE)
    client.receive(session.take())
    client.prefer(home=True)
    client.send(PEER, b"data")
    client.ping(b"12345678")
    assert session.receive(client.take()) == [
        PreferenceReceived(True),
        PingReceived(b"12345678"),
        PacketsReceived([PEER.raw + b"data"]),
    ]
    assert client.receive(frames.pong(b"12345678")) == [PongReceived(b"12345678")]
