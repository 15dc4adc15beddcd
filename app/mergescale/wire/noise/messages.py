"""The cleartext shells of handshake messages and records.

====  ==========  ===============================================================
type  name        layout (u16 big-endian)
====  ==========  ===============================================================
0x01  initiation  version u16, type, length u16 = 96, e 32, s 48, tag 16 = 101
0x02  response    type, length u16 = 48, e 32, tag 16 = 51
0x03  error       type, length u16, UTF-8 text; in place of the response
0x04  record      type, length u16, ciphertext with its 16-byte tag; at most 4096
====  ==========  ===============================================================

Only the initiation carries a version. Source: tailscale ``control/controlbase/messages.go``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Self

from mergescale.kernel.errors import LocalProtocolError, RemoteProtocolError

TYPE_INITIATION = 0x01
TYPE_RESPONSE = 0x02
TYPE_ERROR = 0x03
TYPE_RECORD = 0x04

HEADER = struct.Struct(">BH")
_INITIATION = struct.Struct(">HBH32s48s16s")
_RESPONSE = struct.Struct(">BH32s16s")

INITIATION_BYTES = _INITIATION.size
RESPONSE_BYTES = _RESPONSE.size
_INITIATION_BODY_BYTES = INITIATION_BYTES - 5
_RESPONSE_BODY_BYTES = RESPONSE_BYTES - HEADER.size

MAX_VERSION = 0xFFFF


def prologue(version: int) -> bytes:
    """Return the Noise prologue of a capability version, e.g. ``...Protocol v130``.

    SPEC(control 2.3): the number is the initiation's own version, not the server's; with any
    other number the handshake tag of that client fails.
    """
    return b"Tailscale Control Protocol v%d" % version


@dataclass(frozen=True, slots=True)
class Initiation:
    """The first message, machine to control: 101 bytes.

    Attributes:
        version: the client's capability version, 0 to 65535.
        ephemeral: the client's ephemeral public key, 32 bytes.
        encrypted_static: the machine key, encrypted, with its tag; 48 bytes.
        tag: authentication of the empty payload, 16 bytes.
    """

    version: int
    ephemeral: bytes
    encrypted_static: bytes
    tag: bytes

    @classmethod
    def parse(cls, message: bytes) -> Self:
        """Read an initiation; raise `RemoteProtocolError` unless it is exactly one."""
        if len(message) != INITIATION_BYTES:
            raise RemoteProtocolError(f"a handshake initiation has {INITIATION_BYTES} bytes")
        version, kind, length, ephemeral, static, tag = _INITIATION.unpack(message)
        if kind != TYPE_INITIATION or length != _INITIATION_BODY_BYTES:
            raise RemoteProtocolError("not a handshake initiation")
        return cls(version, ephemeral, static, tag)

    def encode(self) -> bytes:
        """Return the 101 bytes."""
        return _INITIATION.pack(
            self.version,
            TYPE_INITIATION,
            _INITIATION_BODY_BYTES,
            self.ephemeral,
            self.encrypted_static,
            self.tag,
        )


@dataclass(frozen=True, slots=True)
class Response:
    """The second message, control to machine: 51 bytes.

    Attributes:
        ephemeral: control's ephemeral public key, 32 bytes.
        tag: authentication of the empty payload, 16 bytes.
    """

    ephemeral: bytes
    tag: bytes

    @classmethod
    def parse(cls, message: bytes) -> Self:
        """Read a response; raise `RemoteProtocolError` for anything else, an error frame too."""
        if message[:1] == bytes([TYPE_ERROR]):
            raise RemoteProtocolError("control refused the handshake")
        if len(message) != RESPONSE_BYTES:
            raise RemoteProtocolError(f"a handshake response has {RESPONSE_BYTES} bytes")
        kind, length, ephemeral, tag = _RESPONSE.unpack(message)
        if kind != TYPE_RESPONSE or length != _RESPONSE_BODY_BYTES:
            raise RemoteProtocolError("not a handshake response")
        return cls(ephemeral, tag)

    def encode(self) -> bytes:
        """Return the 51 bytes."""
        return _RESPONSE.pack(TYPE_RESPONSE, _RESPONSE_BODY_BYTES, self.ephemeral, self.tag)


def error_frame(text: str) -> bytes:
    """Return the frame that refuses a handshake; the client shows `text` as its dial error.

    It is neither encrypted nor authenticated: never put a secret in it. Legal only in place of
    the response; after the handshake it would be fatal for the client.
    """
    body = text.encode()
    if len(body) > 0xFFFF:
        raise LocalProtocolError("the text of an error frame has at most 65535 bytes")
    return HEADER.pack(TYPE_ERROR, len(body)) + body
