"""Properties of DERP's byte streams and of the relay, over all inputs."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from mergescale.kernel.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from mergescale.kernel.keys import NodeKey, PrivateKey
from mergescale.wire.derp import (
    ClientInfo,
    ClientSession,
    Connection,
    FrameReader,
    FrameType,
    Relay,
    ServerSession,
    frames,
    node_key,
)
from mergescale.wire.derp.boxes import open_client_info, seal_client_info
from mergescale.wire.derp.session import State

RELAY = PrivateKey(b"\x09" * 32)
CLIENT = PrivateKey(b"\x02" * 32)
NONCE = b"\x22" * 24
CLIENT_INFO = frames.encode(
    FrameType.CLIENT_INFO,
    seal_client_info(ClientInfo(), private=CLIENT, server=node_key(RELAY), nonce=NONCE),
)
KEYS = [NodeKey(bytes([number]) * 32) for number in (0xAA, 0xBB, 0xCC)]
DISCO = "TS💬".encode() + bytes(56)

kinds = st.sampled_from([*FrameType]) | st.integers(0, 255)
some_frames = st.lists(st.tuples(kinds, st.binary(max_size=80)), max_size=6)
cuts = st.lists(st.integers(0, 2**16), max_size=10)


def raw(kind: int, payload: bytes) -> bytes:
    return bytes([kind]) + len(payload).to_bytes(4, "big") + payload


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(some_frames, cuts)
def test_chunking_does_not_change_the_frames(
    sent: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    """However the network cuts the bytes, the same frames come out, and nothing is kept."""
    stream = b"".join(raw(kind, payload) for kind, payload in sent)
    reader = FrameReader({})
    received = []
    for chunk in chunks(stream, cuts):
        reader.feed(chunk)
        received += reader.drain()
    assert (received, reader.buffered_bytes) == (sent, 0)


@given(some_frames, cuts)
def test_chunking_does_not_change_a_session(sent: list[tuple[int, bytes]], cuts: list[int]) -> None:
    """A session ends in the same state with the same packets, whole or in pieces."""
    stream = b"".join(raw(kind, payload) for kind, payload in sent)
    outcomes = []
    for pieces in ([stream], chunks(stream, cuts)):
        session = ServerSession(RELAY)
        session.receive(CLIENT_INFO)
        session.admit(NONCE)
        session.take()
        try:
            for piece in pieces:
                session.receive(piece)
        except RemoteProtocolError:
            assert session.state is State.CLOSED
        outcomes.append((session.state, session.take()))
    assert outcomes[0] == outcomes[1]


@given(st.binary(max_size=200) | st.binary(min_size=40, max_size=200).map(lambda b: raw(2, b)))
def test_garbage_never_opens_a_session(data: bytes) -> None:
    """Without a boxed ClientInfo a client is never asked for, let alone admitted."""
    session = ServerSession(RELAY)
    try:
        assert session.receive(data) == []
    except RemoteProtocolError:
        assert session.state is State.CLOSED
    with pytest.raises(LocalProtocolError):
        session.admit(NONCE)


@given(st.binary(max_size=120))
def test_garbage_is_no_client_info(payload: bytes) -> None:
    """Random payloads raise `RemoteProtocolError` and nothing else."""
    with pytest.raises(RemoteProtocolError):
        open_client_info(payload, private=RELAY)


@given(st.lists(st.binary(max_size=60) | st.builds(raw, kinds, st.binary(max_size=60)), max_size=4))
def test_garbage_never_connects_a_client(data: list[bytes]) -> None:
    """A client that talks to a random server waits or closes."""
    client = ClientSession(CLIENT, NONCE)
    try:
        for chunk in data:
            assert client.receive(chunk) == []
    except ProtocolError:
        with pytest.raises(LocalProtocolError):
            client.receive(b"")


SESSION_INPUTS = {
    "client info": lambda s: s.receive(CLIENT_INFO),
    "broken client info": lambda s: s.receive(raw(2, bytes(80))),
    "packet": lambda s: s.receive(frames.send_packet(KEYS[0], b"x")),
    "short packet": lambda s: s.receive(raw(4, b"x")),
    "ping": lambda s: s.receive(frames.ping(bytes(8))),
    "preferred": lambda s: s.receive(frames.note_preferred(home=True)),
    "mesh": lambda s: s.receive(raw(0x10, b"")),
    "unknown": lambda s: s.receive(raw(0x77, b"x")),
    "nothing": lambda s: s.receive(b""),
    "admit": lambda s: s.admit(NONCE),
    "refuse": lambda s: s.refuse(),
    "close": lambda s: s.close(),
}

# The machine written down once more: (state, input) to next state. What is not here is refused,
# as the client's fault by bytes and as ours by calls.
LEGAL = {
    (State.GREETED, "client info"): State.DECIDING,
    (State.DECIDING, "admit"): State.OPEN,
    (State.DECIDING, "refuse"): State.CLOSED,
    # A frame that waits in DECIDING is judged when the client is admitted.
    **{
        (State.DECIDING, name): State.DECIDING
        for name in SESSION_INPUTS
        if name not in {"admit", "refuse", "close"}
    },
    # A second ClientInfo means nothing to an open session, whatever is in it.
    **{
        (State.OPEN, name): State.OPEN
        for name in ("client info", "broken client info", "packet", "ping", "preferred", "unknown")
    },
    **{(state, "nothing"): state for state in (State.GREETED, State.DECIDING, State.OPEN)},
    **{(state, "close"): State.CLOSED for state in State},
}
BAD_AHEAD = {"short packet", "mesh"}


@given(st.lists(st.sampled_from(sorted(SESSION_INPUTS)), max_size=8))
def test_every_input_in_every_state_is_legal_or_closes(inputs: list[str]) -> None:
    """The session does what the table says, or refuses by the right family of error."""
    session = ServerSession(RELAY)
    ahead: set[str] = set()
    for name in inputs:
        state = session.state
        expected = LEGAL.get((state, name))
        if state is State.DECIDING and name == "admit" and ahead & BAD_AHEAD:
            expected = None
        if state is State.DECIDING:
            ahead.add(name)
        if expected is not None:
            SESSION_INPUTS[name](session)
            assert session.state is expected
            continue
        ours = state is State.CLOSED or (
            name in {"admit", "refuse"} and state is not State.DECIDING
        )
        with pytest.raises(LocalProtocolError if ours else RemoteProtocolError):
            SESSION_INPUTS[name](session)
        assert session.state is (state if ours else State.CLOSED)


class RelayModel(RuleBasedStateMachine):
    """Any sequence of calls keeps the relay's books straight and its memory bounded."""

    connected = Bundle("connected")

    def __init__(self) -> None:
        super().__init__()
        self.relay = Relay()
        self.alive: list[Connection] = []
        self.now = 0.0

    @rule(target=connected, key=st.sampled_from(KEYS))
    def register(self, key: NodeKey) -> Connection:
        connection = self.relay.register(key)
        self.alive.append(connection)
        return connection

    @rule(connection=consumes(connected))
    def unregister(self, connection: Connection) -> None:
        self.relay.unregister(connection)
        self.alive.remove(connection)

    @rule(
        source=connected,
        packets=st.lists(
            st.tuples(st.sampled_from(KEYS), st.sampled_from([b"x", DISCO])), max_size=90
        ),
    )
    def forward(self, source: Connection, packets: list[tuple[NodeKey, bytes]]) -> None:
        self.now += 0.1
        payloads = [key.raw + packet for key, packet in packets]
        self.relay.forward(source, payloads, self.now)

    @rule(connection=connected)
    def pause(self, connection: Connection) -> None:
        self.relay.pause(connection)

    @rule(connection=connected)
    def resume(self, connection: Connection) -> None:
        self.relay.resume(connection)

    @rule(connection=connected)
    def ping(self, connection: Connection) -> None:
        self.relay.ping(connection, b"12345678")

    @rule()
    def drain(self) -> None:
        for connection, data in self.relay.drain():
            assert connection in self.alive
            reader = FrameReader({})
            reader.feed(data)
            received = reader.drain()
            assert received
            assert reader.buffered_bytes == 0
            assert {kind for kind, _ in received} <= {0x05, 0x08, 0x13}

    @invariant()
    def books_are_straight(self) -> None:
        by_key = {c for key in KEYS for c in self.relay.connections(key)}
        assert by_key == set(self.alive)
        active = self.relay._active
        assert active.keys() == {connection.key.raw for connection in self.alive}
        assert all(connection in self.alive for connection in active.values())
        heard = {(key, c) for c in self.alive for key in c.heard}
        listeners = {(key, c) for key, cs in self.relay._listeners.items() for c in cs}
        assert heard == listeners
        assert set(self.relay._ready) == {c for c in self.alive if c._outbox}

    @invariant()
    def lanes_are_bounded(self) -> None:
        for connection in self.alive:
            assert max(len(connection._packets), len(connection._disco)) <= 32
            assert len(connection._gone) <= len(KEYS)


TestRelayModel = RelayModel.TestCase
