r"""The early payload: what control may send inside Noise before its HTTP/2 SETTINGS.

::

    FF FF FF 54 53 | length u32 BE | {"nodeKeyChallenge":"chalpub:<64 hex>"}

The client reads nine bytes, which is also an HTTP/2 frame header: either they start with the
magic, or they are the start of HTTP/2 already. Source: tailscale ``control/ts2021/conn.go``,
``tailcfg.EarlyNoise``.
"""

from __future__ import annotations

import struct

import msgspec

from mergescale.kernel.errors import Invalid, RemoteProtocolError
from mergescale.kernel.keys import ChallengeKey

MAGIC = b"\xff\xff\xffTS"
#: LIMIT: the Rust client's buffer (Go reads up to 10 MiB).
MAX_JSON_BYTES = 1024

_HEADER = struct.Struct(">5sI")


class EarlyNoise(msgspec.Struct, frozen=True):
    """tailcfg.EarlyNoise; the one field it has."""

    nodeKeyChallenge: str = ""  # noqa: N815 - tailcfg's spelling


def early_payload(challenge: ChallengeKey) -> bytes:
    """Return the payload, header and JSON, to be sealed as the channel's first plaintext."""
    body = msgspec.json.encode(EarlyNoise(str(challenge)))
    return _HEADER.pack(MAGIC, len(body)) + body


def read_early_payload(data: bytes) -> tuple[ChallengeKey | None, int] | None:
    """Read the start of control's plaintext, as a client.

    Args:
        data: all plaintext received so far.

    Returns:
        None while more bytes are needed, else the challenge and how many bytes it took;
        ``(None, 0)`` when HTTP/2 starts at once.

    Raises:
        RemoteProtocolError: the payload is too long or not what it should be.
    """
    if len(data) < _HEADER.size:
        return None
    magic, length = _HEADER.unpack_from(data)
    if magic != MAGIC:
        return None, 0
    if length > MAX_JSON_BYTES:
        raise RemoteProtocolError("an early payload is too long")
    end = _HEADER.size + length
    if len(data) < end:
        return None
    try:
        early = msgspec.json.decode(data[_HEADER.size : end], type=EarlyNoise)
        return ChallengeKey.parse(early.nodeKeyChallenge), end
    except (Invalid, ValueError, RecursionError):
        raise RemoteProtocolError("an early payload is malformed") from None
