"""Properties of the Noise channel, over all inputs."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergescale.kernel.errors import LocalProtocolError, RemoteProtocolError
from mergescale.kernel.keys import PrivateKey
from mergescale.wire.noise import (
    Initiation,
    Transport,
    initiate,
    public_key,
    read_early_payload,
    respond,
)

KEY_A, KEY_B = b"\xaa" * 32, b"\xbb" * 32
CONTROL = PrivateKey(b"\x01" * 32)
MACHINE = PrivateKey(b"\x02" * 32)
EPHEMERAL = PrivateKey(b"\x03" * 32)
ANSWER = PrivateKey(b"\x04" * 32)
INITIATION = initiate(
    version=130, static=MACHINE, ephemeral=EPHEMERAL, server=public_key(CONTROL)
).message

messages = st.lists(
    st.binary(max_size=40) | st.builds(bytes, st.integers(4070, 9000)), min_size=1, max_size=5
)


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(messages, st.lists(st.integers(0, 2**20), max_size=12))
def test_chunking_does_not_change_the_plaintext(sent: list[bytes], cuts: list[int]) -> None:
    """However the network cuts the bytes, the same plaintext comes out."""
    a = Transport(send_key=KEY_A, receive_key=KEY_B)
    b = Transport(send_key=KEY_B, receive_key=KEY_A)
    stream = b"".join(a.seal(message) for message in sent)
    assert b"".join(b.receive(chunk) for chunk in chunks(stream, cuts)) == b"".join(sent)


@given(st.lists(st.binary(max_size=60) | st.just(b"\x04\x00\x10" + bytes(16)), max_size=4))
def test_garbage_closes_the_channel_or_waits(data: list[bytes]) -> None:
    """Nobody without the key gets plaintext out or another exception than the two families."""
    channel = Transport(send_key=KEY_A, receive_key=KEY_B)
    for chunk in data:
        if channel.closed:
            with pytest.raises(LocalProtocolError):
                channel.receive(chunk)
            continue
        try:
            assert channel.receive(chunk) == b""
        except RemoteProtocolError:
            assert channel.closed


@given(st.binary(max_size=110) | st.binary(min_size=101, max_size=101))
def test_garbage_is_no_initiation(data: bytes) -> None:
    """Random bytes parse or are refused, and never finish a handshake."""
    with pytest.raises(RemoteProtocolError):
        respond(data, static=CONTROL, ephemeral=ANSWER)


@given(st.integers(0, 8 * len(INITIATION) - 1))
def test_every_flipped_bit_fails_the_handshake(bit: int) -> None:
    """No bit of an initiation may change.

    The top bit of the ephemeral key is masked by X25519 but still part of the hash.
    """
    tampered = bytearray(INITIATION)
    tampered[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RemoteProtocolError):
        respond(bytes(tampered), static=CONTROL, ephemeral=ANSWER)


@given(st.integers(0, 65535), st.binary(min_size=96, max_size=96))
def test_initiation_round_trips(version: int, body: bytes) -> None:
    """Parsing and encoding are inverse for every field."""
    parsed = Initiation(version, body[:32], body[32:80], body[80:])
    assert Initiation.parse(parsed.encode()) == parsed


@given(st.binary(max_size=40).map(lambda rest: b"\xff\xff\xffTS" + rest) | st.binary(max_size=40))
def test_garbage_is_no_early_payload(data: bytes) -> None:
    """Random bytes wait, are HTTP/2, or are the peer's fault; never a challenge."""
    try:
        found = read_early_payload(data)
    except RemoteProtocolError:
        return
    assert found in (None, (None, 0))
