"""What a handshake refuses."""

from __future__ import annotations

import dataclasses

import pytest

from mergescale.kernel.errors import LocalProtocolError, RemoteProtocolError
from mergescale.kernel.keys import MachineKey, PrivateKey
from mergescale.wire.noise import Initiation, error_frame, initiate, public_key, respond
from mergescale.wire.noise.symmetric import KeyPair, SymmetricState

CONTROL = PrivateKey(b"\x01" * 32)
MACHINE = PrivateKey(b"\x02" * 32)
EPHEMERAL = PrivateKey(b"\x03" * 32)
ANSWER = PrivateKey(b"\x04" * 32)

#: u coordinates of low order on curve25519 (RFC 7748, section 7).
LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
]


def initiation(version: int = 130) -> bytes:
    server = public_key(CONTROL)
    return initiate(version=version, static=MACHINE, ephemeral=EPHEMERAL, server=server).message


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_initiation_parses_into_its_four_fields() -> None:
    """Parsing and encoding an initiation are inverse."""
    message = initiation(0x0142)
    parsed = Initiation.parse(message)
    expected = Initiation(0x0142, message[5:37], message[37:85], message[85:101])
    assert parsed == expected
    assert parsed.encode() == message


@pytest.mark.parametrize(
    "message",
    [b"", initiation()[:-1], initiation() + b"\0", flip(initiation(), 2), flip(initiation(), 4)],
    ids=["empty", "short", "long", "type", "length"],
)
def test_malformed_initiation_is_the_peers_fault(message: bytes) -> None:
    """Anything but 101 bytes of type 1 and length 96 is refused."""
    with pytest.raises(RemoteProtocolError):
        Initiation.parse(message)


@pytest.mark.parametrize("at", [1, 5, 40, 84, 85, 100])
def test_tampered_initiation_does_not_verify(at: int) -> None:
    """A flipped bit anywhere, the version included, fails a tag."""
    with pytest.raises(RemoteProtocolError):
        respond(flip(initiation(), at), static=CONTROL, ephemeral=ANSWER)


def test_initiation_for_another_control_key_does_not_verify() -> None:
    """A client that pinned another control key is refused."""
    with pytest.raises(RemoteProtocolError):
        respond(initiation(), static=PrivateKey(b"\x09" * 32), ephemeral=ANSWER)


@pytest.mark.parametrize("version", [0, 68, 130, 65535])
def test_prologue_takes_the_version_of_the_initiation(version: int) -> None:
    """Clients of every version complete a handshake with the same server."""
    accepted = respond(initiation(version), static=CONTROL, ephemeral=ANSWER)
    assert (accepted.version, accepted.peer) == (version, public_key(MACHINE))


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda point: point.hex()[:8])
def test_low_order_ephemeral_is_refused(point: bytes) -> None:
    """An ephemeral key whose agreement is all zero is refused before anything is decrypted."""
    forged = dataclasses.replace(Initiation.parse(initiation()), ephemeral=point).encode()
    with pytest.raises(RemoteProtocolError, match="low order"):
        respond(forged, static=CONTROL, ephemeral=ANSWER)


def test_low_order_server_key_is_refused() -> None:
    """A machine does not start a handshake with a zero control key."""
    with pytest.raises(RemoteProtocolError, match="low order"):
        initiate(version=130, static=MACHINE, ephemeral=EPHEMERAL, server=MachineKey.zero())


def test_version_has_sixteen_bits() -> None:
    """A version that does not fit the header is our own mistake."""
    with pytest.raises(LocalProtocolError):
        initiation(0x10000)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda response: response[:-1],
        lambda response: response + b"\0",
        lambda response: flip(response, 0),
        lambda response: flip(response, 2),
        lambda response: flip(response, 3),
        lambda response: flip(response, 50),
        lambda _: error_frame("go away"),
    ],
    ids=["short", "long", "type", "length", "ephemeral", "tag", "error"],
)
def test_bad_response_ends_the_initiator(tamper: object) -> None:
    """A wrong response is the peer's fault, and the good one afterwards is too late."""
    assert callable(tamper)
    initiator = initiate(
        version=130, static=MACHINE, ephemeral=EPHEMERAL, server=public_key(CONTROL)
    )
    response = respond(initiator.message, static=CONTROL, ephemeral=ANSWER).response
    with pytest.raises(RemoteProtocolError):
        initiator.finish(tamper(response))
    with pytest.raises(LocalProtocolError):
        initiator.finish(response)


def test_error_frame_is_cleartext_utf8() -> None:
    """An error frame is type 3, a big-endian length and the text."""
    assert error_frame("zu alt: ü") == b"\x03\x00\x0azu alt: \xc3\xbc"


def test_error_frame_has_a_sixteen_bit_length() -> None:
    """A text that does not fit the header is our own mistake."""
    with pytest.raises(LocalProtocolError):
        error_frame("x" * 65536)


def test_symmetric_state_ends_with_split() -> None:
    """After split no token can be processed any more."""
    state = SymmetricState(b"prologue")
    state.mix_agreement(KeyPair.of(MACHINE), public_key(CONTROL).raw)
    state.split()
    for use in (
        lambda: state.mix_hash(b""),
        lambda: state.mix_agreement(KeyPair.of(MACHINE), public_key(CONTROL).raw),
        lambda: state.encrypt_and_hash(b""),
        state.split,
    ):
        with pytest.raises(LocalProtocolError):
            use()


def test_handshake_key_is_used_once() -> None:
    """A second encryption under the same key would repeat nonce zero, so it is refused."""
    state = SymmetricState(b"prologue")
    state.mix_agreement(KeyPair.of(MACHINE), public_key(CONTROL).raw)
    state.encrypt_and_hash(b"")
    with pytest.raises(LocalProtocolError):
        state.encrypt_and_hash(b"")
