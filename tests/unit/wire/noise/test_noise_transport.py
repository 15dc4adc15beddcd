"""Records: splitting, order of nonces, limits, and the end of a channel."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from mergescale.kernel.errors import LocalProtocolError, RemoteProtocolError
from mergescale.wire.noise import Transport

KEY_A, KEY_B = b"\xaa" * 32, b"\xbb" * 32


def pair(counter: int = 0) -> tuple[Transport, Transport]:
    """Return two ends of a channel whose next record of A has number `counter`."""
    return (
        Transport(send_key=KEY_A, receive_key=KEY_B, sent=counter),
        Transport(send_key=KEY_B, receive_key=KEY_A, received=counter),
    )


def record(plaintext: bytes, counter: int) -> bytes:
    """Build a record of A from the specification alone."""
    nonce = bytes(4) + counter.to_bytes(8, "big")
    sealed = ChaCha20Poly1305(KEY_A).encrypt(nonce, plaintext, None)
    return b"\x04" + len(sealed).to_bytes(2, "big") + sealed


def test_several_records_each_way_keep_their_order() -> None:
    """Three records in both directions decrypt, so counters count and are big-endian."""
    a, b = pair()
    assert [a.seal(b"one"), a.seal(b"two"), a.seal(b"three")] == [
        record(b"one", 0),
        record(b"two", 1),
        record(b"three", 2),
    ]
    assert b.receive(record(b"one", 0) + record(b"two", 1)) == b"onetwo"
    assert b.receive(record(b"three", 2)) == b"three"
    assert [a.receive(b.seal(text)) for text in (b"x", b"y", b"z")] == [b"x", b"y", b"z"]


def test_long_plaintext_becomes_records_of_4096_bytes() -> None:
    """No frame on the wire is longer than 4096 bytes, header included."""
    a, b = pair()
    plaintext = bytes(range(256)) * 40
    sealed = a.seal(plaintext)
    sizes = []
    rest = sealed
    while rest:
        size = 3 + int.from_bytes(rest[1:3], "big")
        sizes.append(size)
        rest = rest[size:]
    assert sizes == [4096, 4096, 3 + 16 + len(plaintext) - 2 * 4077]
    assert b.receive(sealed) == plaintext


def test_empty_plaintext_becomes_no_record() -> None:
    """Sealing nothing sends nothing and takes no counter."""
    a, _ = pair()
    assert a.seal(b"") == b""
    assert a.seal(b"x") == record(b"x", 0)


def test_records_without_plaintext_are_skipped() -> None:
    """An empty record yields nothing but counts."""
    _, b = pair()
    assert b.receive(record(b"", 0) + record(b"", 1) + record(b"x", 2)) == b"x"


def test_partial_record_waits_for_the_rest() -> None:
    """Bytes of an unfinished record are kept; bytes behind a finished one are not lost."""
    _, b = pair()
    stream = record(b"first", 0) + record(b"second", 1)
    assert b.receive(stream[:10]) == b""
    assert b.receive(stream[10:30]) == b"first"
    assert b.receive(stream[30:]) == b"second"


@pytest.mark.parametrize(
    "bad",
    [
        b"\x03\x00\x05hello",
        b"\x02\x00\x30",
        b"\x04\x00\x0f",
        b"\x04\x0f\xfe",
        b"\x04\xff\xff",
        record(b"x", 1),
        record(b"x", 0)[:-1] + b"\0",
    ],
    ids=["error-frame", "response", "shorter-than-tag", "4097", "longest", "nonce", "tag"],
)
def test_bad_frame_closes_the_channel(bad: bytes) -> None:
    """Any bad frame is the peer's fault; afterwards the channel may not be used either way."""
    _, b = pair()
    with pytest.raises(RemoteProtocolError):
        b.receive(bad)
    assert b.closed
    with pytest.raises(LocalProtocolError):
        b.receive(record(b"x", 0))
    with pytest.raises(LocalProtocolError):
        b.seal(b"x")


def test_longest_record_is_accepted() -> None:
    """A frame of exactly 4096 bytes is legal."""
    _, b = pair()
    assert b.receive(record(b"m" * 4077, 0)) == b"m" * 4077


def test_send_counter_is_exhausted_before_its_last_value() -> None:
    """Record 2^64-2 is the last; the next is refused and the channel closed."""
    a, b = pair(2**64 - 2)
    assert b.receive(a.seal(b"last")) == b"last"
    with pytest.raises(LocalProtocolError, match="exhausted"):
        a.seal(b"one too many")
    assert a.closed


def test_receive_counter_is_exhausted_before_its_last_value() -> None:
    """A peer that goes on after record 2^64-2 broke the protocol."""
    _, b = pair(2**64 - 1)
    with pytest.raises(RemoteProtocolError, match="last counter"):
        b.receive(record(b"x", 2**64 - 1))
    assert b.closed


def test_closed_channel_refuses_everything() -> None:
    """After `close` both directions are our own mistake."""
    a, _ = pair()
    a.close()
    with pytest.raises(LocalProtocolError):
        a.seal(b"x")
    with pytest.raises(LocalProtocolError):
        a.receive(b"")
