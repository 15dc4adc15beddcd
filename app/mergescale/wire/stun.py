"""STUN, as far as Tailscale's clients use it: which address do packets of mine come from?

A message is ``type u16 | length u16 | cookie 21 12 A4 42 | transaction id 12 | attributes``, all
big-endian; an attribute is ``type u16 | length u16 | value``, padded to four bytes.

=========  =======================================================================
request    type 0x0001; SOFTWARE (0x8022) "tailnode"; FINGERPRINT (0x8028); 40 bytes
response   type 0x0101; XOR-MAPPED-ADDRESS (0x0020); 32 bytes for IPv4, 44 for IPv6
=========  =======================================================================

Only that request is answered, as the reference server does. Any RFC 5389 binding request would
work too, but a bare one has 20 bytes and its answer 32 or 44, and the source of a datagram is
easily forged: the relay would be a reflector that amplifies. With 40 bytes asked and 32 answered
it is none. (For IPv6 the answer is 4 bytes longer than the question; with headers 92 to 88.)

Source: RFC 5389 sections 6 and 15, tailscale ``net/stun``, ``net/stunserver``.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from mergescale.kernel.errors import LocalProtocolError, RemoteProtocolError

COOKIE = b"\x21\x12\xa4\x42"
TRANSACTION_BYTES = 12
DEFAULT_PORT = 3478

_BINDING_REQUEST = 0x0001
_BINDING_SUCCESS = 0x0101
_XOR_MAPPED_ADDRESS = 0x0020
_SOFTWARE = 0x8022
_FINGERPRINT = 0x8028
_SOFTWARE_NAME = b"tailnode"
_FINGERPRINT_XOR = 0x5354554E

_HEADER = struct.Struct(">HH4s12s")
_ATTRIBUTE = struct.Struct(">HH")
_FINGERPRINT_BYTES = _ATTRIBUTE.size + 4
_FAMILY_IPV4 = 1
_FAMILY_IPV6 = 2

IPAddress = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Mapped:
    """A binding response: what the server saw.

    Attributes:
        transaction: 12 bytes, those of the request.
        address: where the request came from.
        port: UDP port that it came from.
    """

    transaction: bytes
    address: IPAddress
    port: int


def request(transaction: bytes) -> bytes:
    """Return a client's binding request, 40 bytes, with a `transaction` of 12 random bytes."""
    _require_transaction(transaction)
    software = _ATTRIBUTE.pack(_SOFTWARE, len(_SOFTWARE_NAME)) + _SOFTWARE_NAME
    # RFC 5389 15.5: the header already counts the fingerprint that is computed over it.
    size = len(software) + _FINGERPRINT_BYTES
    message = _HEADER.pack(_BINDING_REQUEST, size, COOKIE, transaction) + software
    return message + _ATTRIBUTE.pack(_FINGERPRINT, 4) + _fingerprint(message)


def parse_request(datagram: bytes) -> bytes:
    """Return the transaction id (12 bytes) of a Tailscale client's binding request.

    Raises:
        RemoteProtocolError: anything else; send no answer to it.
    """
    kind, transaction = _parse_header(datagram)
    if kind != _BINDING_REQUEST:
        raise RemoteProtocolError("not a stun binding request")
    attributes = list(_attributes(datagram))
    if (_SOFTWARE, _SOFTWARE_NAME) not in attributes:
        raise RemoteProtocolError("a stun request of other software")
    if attributes[-1] != (_FINGERPRINT, _fingerprint(datagram[:-_FINGERPRINT_BYTES])):
        raise RemoteProtocolError("a stun request without a correct last fingerprint")
    return transaction


def response(transaction: bytes, address: IPAddress, port: int) -> bytes:
    """Return the answer to send to `address` and `port`, which are also its content.

    An IPv4-mapped IPv6 source, which is what a socket of both families reports, is told as IPv4.
    """
    _require_transaction(transaction)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    family = _FAMILY_IPV4 if isinstance(address, IPv4Address) else _FAMILY_IPV6
    mask = COOKIE + transaction
    value = struct.pack(">BBH", 0, family, port ^ 0x2112) + _xor(address.packed, mask)
    attribute = _ATTRIBUTE.pack(_XOR_MAPPED_ADDRESS, len(value)) + value
    return _HEADER.pack(_BINDING_SUCCESS, len(attribute), COOKIE, transaction) + attribute


def parse_response(datagram: bytes) -> Mapped:
    """Read a binding response, as a client.

    Raises:
        RemoteProtocolError: not a success response with an XOR-MAPPED-ADDRESS.
    """
    kind, transaction = _parse_header(datagram)
    if kind != _BINDING_SUCCESS:
        raise RemoteProtocolError("not a stun binding response")
    mask = COOKIE + transaction
    for attribute, value in _attributes(datagram):
        if attribute != _XOR_MAPPED_ADDRESS:
            continue
        port = int.from_bytes(value[2:4], "big") ^ 0x2112
        match value[1:2], len(value):
            case b"\x01", 8:
                return Mapped(transaction, IPv4Address(_xor(value[4:], mask)), port)
            case b"\x02", 20:
                return Mapped(transaction, IPv6Address(_xor(value[4:], mask)), port)
            case _:
                raise RemoteProtocolError("a stun address of no known family")
    raise RemoteProtocolError("a stun response without an address")


def _parse_header(datagram: bytes) -> tuple[int, bytes]:
    """Return message type and transaction id of a datagram that is one whole message."""
    if len(datagram) < _HEADER.size:
        raise RemoteProtocolError("too short for stun")
    kind, length, cookie, transaction = _HEADER.unpack_from(datagram)
    if cookie != COOKIE or length != len(datagram) - _HEADER.size:
        raise RemoteProtocolError("not stun")
    return kind, transaction


def _attributes(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of every attribute; the header has been checked."""
    start = _HEADER.size
    while start < len(datagram):
        value = start + _ATTRIBUTE.size
        if value > len(datagram):
            raise RemoteProtocolError("a stun attribute is cut short")
        kind, length = _ATTRIBUTE.unpack_from(datagram, start)
        start = value + length + -length % 4
        if start > len(datagram):
            raise RemoteProtocolError("a stun attribute is cut short")
        yield kind, datagram[value : value + length]


def _fingerprint(message: bytes) -> bytes:
    return (zlib.crc32(message) ^ _FINGERPRINT_XOR).to_bytes(4, "big")


def _xor(data: bytes, mask: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(data, mask, strict=False))


def _require_transaction(transaction: bytes) -> None:
    if len(transaction) != TRANSACTION_BYTES:
        raise LocalProtocolError(f"a stun transaction id has {TRANSACTION_BYTES} bytes")
