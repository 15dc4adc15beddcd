"""Binding requests and responses, byte by byte."""

from __future__ import annotations

import zlib
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergescale.kernel.errors import LocalProtocolError, RemoteProtocolError
from mergescale.wire import stun

TRANSACTION = bytes(range(12))


def build(kind: int, attributes: bytes, *, fingerprint: bool = True) -> bytes:
    """Build a message from the RFC alone."""
    size = len(attributes) + (8 if fingerprint else 0)
    message = kind.to_bytes(2, "big") + size.to_bytes(2, "big") + b"\x21\x12\xa4\x42"
    message += TRANSACTION + attributes
    if fingerprint:
        crc = zlib.crc32(message) ^ 0x5354554E
        message += b"\x80\x28\x00\x04" + crc.to_bytes(4, "big")
    return message


TAILNODE = b"\x80\x22\x00\x08tailnode"


def test_request_is_the_clients_forty_bytes() -> None:
    """Our request is what the specification shows, and the server reads it."""
    message = stun.request(TRANSACTION)
    assert message == build(1, TAILNODE)
    assert len(message) == 40
    assert stun.parse_request(message) == TRANSACTION


def test_request_may_carry_more_attributes_before_the_fingerprint() -> None:
    """Unknown optional attributes, padded to four bytes, do not matter."""
    message = build(1, b"\x80\x99\x00\x05hello\0\0\0" + TAILNODE)
    assert stun.parse_request(message) == TRANSACTION


@pytest.mark.parametrize(
    "message",
    [
        b"",
        build(1, TAILNODE)[:-1],
        build(1, TAILNODE) + b"\0",
        build(0x101, TAILNODE),
        build(1, b"", fingerprint=False),
        build(1, b""),
        build(1, TAILNODE, fingerprint=False),
        build(1, b"\x80\x22\x00\x08tailnodf"),
        build(1, TAILNODE)[:-1] + b"\0",
        build(1, build(1, TAILNODE)[32:] + TAILNODE, fingerprint=False),
        build(1, TAILNODE + b"\x80\x22", fingerprint=False),
        build(1, TAILNODE + b"\x80\x22\x00\xff", fingerprint=False),
        b"\0\x01\0\0\0\0\0\0" + TRANSACTION,
    ],
    ids=[
        "empty",
        "short",
        "long",
        "response",
        "bare",
        "no-software",
        "no-fingerprint",
        "other-software",
        "wrong-fingerprint",
        "fingerprint-not-last",
        "cut-header",
        "cut-value",
        "no-cookie",
    ],
)
def test_other_datagrams_get_no_answer(message: bytes) -> None:
    """Everything but a Tailscale client's request is refused, so nobody can be flooded."""
    with pytest.raises(RemoteProtocolError):
        stun.parse_request(message)


def test_response_tells_an_ipv4_address() -> None:
    """Port and address are masked with the cookie; the answer is shorter than the question."""
    message = stun.response(TRANSACTION, IPv4Address("192.0.2.1"), 32853)
    # RFC 5769 section 2.2 has the same address and port.
    assert message == build(0x101, bytes.fromhex("002000080001a147e112a643"), fingerprint=False)
    assert len(message) == 32


def test_response_tells_an_ipv6_address() -> None:
    """An IPv6 address is masked with cookie and transaction id."""
    transaction = bytes.fromhex("b7e7a701bc34d686fa87dfae")
    address = IPv6Address("2001:db8:1234:5678:11:2233:4455:6677")
    message = stun.response(transaction, address, 32853)
    # RFC 5769 section 2.3 has the same transaction id, address and port.
    value = "0002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
    assert message[20:] == bytes.fromhex("00200014" + value)
    assert stun.parse_response(message) == stun.Mapped(transaction, address, 32853)


def test_mapped_source_is_told_as_ipv4() -> None:
    """A socket of both families reports ``::ffff:a.b.c.d``; the client is told ``a.b.c.d``."""
    mapped = stun.response(TRANSACTION, IPv6Address("::ffff:192.0.2.1"), 1)
    assert mapped == stun.response(TRANSACTION, IPv4Address("192.0.2.1"), 1)


@pytest.mark.parametrize(
    "message",
    [
        build(1, TAILNODE),
        build(0x101, b"", fingerprint=False),
        build(0x101, b"\0\x20\0\x08\0\x03" + bytes(6), fingerprint=False),
        build(0x101, b"\0\x20\0\x04\0\x01\0\0", fingerprint=False),
    ],
    ids=["request", "no-address", "no-family", "short-address"],
)
def test_malformed_response_is_the_peers_fault(message: bytes) -> None:
    """A client refuses what is not a success response with an address."""
    with pytest.raises(RemoteProtocolError):
        stun.parse_response(message)


@pytest.mark.parametrize("transaction", [b"", bytes(11), bytes(13)])
def test_transaction_id_has_twelve_bytes(transaction: bytes) -> None:
    """Another length is our own mistake."""
    with pytest.raises(LocalProtocolError):
        stun.request(transaction)
    with pytest.raises(LocalProtocolError):
        stun.response(transaction, IPv4Address("192.0.2.1"), 1)


@given(
    st.binary(min_size=12, max_size=12),
    st.ip_addresses(),
    st.integers(0, 65535),
)
def test_response_round_trips(
    transaction: bytes, address: IPv4Address | IPv6Address, port: int
) -> None:
    """What the server writes the client reads, for every address."""
    told = getattr(address, "ipv4_mapped", None) or address
    parsed = stun.parse_response(stun.response(transaction, address, port))
    assert parsed == stun.Mapped(transaction, told, port)


@given(
    st.binary(max_size=60)
    | st.binary(max_size=60).map(lambda a: build(1, a, fingerprint=False))
    | st.binary(max_size=60).map(lambda a: build(0x101, a, fingerprint=False))
)
def test_garbage_is_refused(datagram: bytes) -> None:
    """Random datagrams raise `RemoteProtocolError` and nothing else."""
    with pytest.raises(RemoteProtocolError):
        stun.parse_request(datagram)
    try:
        stun.parse_response(datagram)
    except RemoteProtocolError:
        return
    assert b"\0\x20" in datagram
