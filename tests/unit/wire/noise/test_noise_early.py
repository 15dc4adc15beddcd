"""The early payload, written and read."""

from __future__ import annotations

import pytest

from mergescale.kernel.errors import RemoteProtocolError
from mergescale.kernel.keys import ChallengeKey
from mergescale.wire.noise import early_payload, read_early_payload

CHALLENGE = ChallengeKey(b"\xc5" * 32)
JSON = b'{"nodeKeyChallenge":"chalpub:' + b"c5" * 32 + b'"}'


def framed(body: bytes) -> bytes:
    return b"\xff\xff\xffTS" + len(body).to_bytes(4, "big") + body


def test_early_payload_is_magic_length_and_json() -> None:
    """The payload is byte for byte what the specification shows."""
    assert early_payload(CHALLENGE) == framed(JSON)


def test_reader_waits_for_the_whole_payload() -> None:
    """Every proper prefix asks for more; the whole gives the challenge and its length."""
    payload = early_payload(CHALLENGE)
    assert {read_early_payload(payload[:size]) for size in range(len(payload))} == {None}
    assert read_early_payload(payload + b"PRI") == (CHALLENGE, len(payload))


def test_reader_recognises_http2_at_once() -> None:
    """Nine bytes without the magic are an HTTP/2 frame header, and nothing was consumed."""
    assert read_early_payload(b"\0\0\0\x04\0\0\0\0\0") == (None, 0)


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff\xff\xffTS\x00\x00\x04\x01",
        framed(b"{}"),
        framed(b"[1]"),
        framed(b"{"),
        framed(b""),
        framed(b'{"a":' + b"[" * 1019),
        framed(b'{"nodeKeyChallenge":"\xff"}'),
        framed(b'{"nodeKeyChallenge":"nodekey:' + b"c5" * 32 + b'"}'),
    ],
    ids=["1025-bytes", "no-field", "no-object", "cut", "empty", "deep", "not-utf8", "other-kind"],
)
def test_malformed_payload_is_the_peers_fault(payload: bytes) -> None:
    """A payload that is too long or not a challenge is refused."""
    with pytest.raises(RemoteProtocolError):
        read_early_payload(payload)
