"""Keys and tokens as text, and the random names that nobody may guess.

    mskey-auth-<id>-<secret>      a pre-auth key
    mskey-api-<id>-<secret>       an API token
    mskey-client-<id>-<secret>    an OAuth client's secret; `<id>` is the client's id

The id is 12 base58 digits, shown in lists and used to find the record. The secret is 44 base58
digits of 256 random bits; only its SHA-256 is kept. A slow hash would add nothing against guessing
256 bits, and would let anybody keep the server busy.

Randomness comes in as bytes, so that everything here is a function.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from mergescale.kernel.errors import Invalid
from mergescale.kernel.ids import LoginId

#: Random bytes that `mint` takes: 16 for the id, 32 for the secret.
MINT_BYTES: Final = 48
#: Random bytes that `stable_id` and `login_id` take.
ID_BYTES: Final = 24

_ID_BYTES: Final = 16
_ID_DIGITS: Final = 12
_SECRET_DIGITS: Final = 44
_STABLE_DIGITS: Final = 16
_LOGIN_DIGITS: Final = 24
#: Bitcoin's alphabet: no 0, O, I or l, and no hyphen, which separates the parts.
_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_TEXT: Final = re.compile(
    rf"mskey-(auth|api|client)-([{_ALPHABET}]{{{_ID_DIGITS}}})-([{_ALPHABET}]{{{_SECRET_DIGITS}}})"
)


class Kind(StrEnum):
    """What a key opens."""

    AUTH = "auth"
    API = "api"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Minted:
    """A new key.

    Attributes:
        id: public half.
        text: the whole key; shown once.
        secret_hash: what is stored.
    """

    id: str
    text: str = field(repr=False)
    secret_hash: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Shown:
    """A key that somebody showed; whether it is right is for `verify` to say."""

    kind: Kind
    id: str
    secret: str = field(repr=False)

    @property
    def secret_hash(self) -> bytes:
        """SHA-256 of the secret."""
        return _hash(self.secret)


def mint(kind: Kind, entropy: bytes) -> Minted:
    """Make a key of `MINT_BYTES` random bytes."""
    _check_count(entropy, MINT_BYTES)
    key_id = _base58(entropy[:_ID_BYTES], _ID_DIGITS)
    secret = _base58(entropy[_ID_BYTES:], _SECRET_DIGITS)
    return Minted(key_id, f"mskey-{kind}-{key_id}-{secret}", _hash(secret))


def parse(text: str) -> Shown:
    """Read a key's text; white space around it does not count.

    Raises:
        Invalid: not a key of ours; the message does not repeat it.
    """
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise Invalid("this is not a key of this server")
    kind, key_id, secret = found.groups()
    return Shown(Kind(kind), key_id, secret)


def verify(shown: Shown, secret_hash: bytes) -> bool:
    """Say whether the secret that was shown is the one whose hash is stored."""
    return hmac.compare_digest(shown.secret_hash, secret_hash)


def stable_id(entropy: bytes) -> str:
    """Return a tailcfg.StableNodeID of `ID_BYTES` random bytes: ``n``, 16 digits, ``CNTRL``."""
    _check_count(entropy, ID_BYTES)
    return f"n{_base58(entropy, _STABLE_DIGITS)}CNTRL"


def login_id(entropy: bytes) -> LoginId:
    """Return the id of a pending login of `ID_BYTES` random bytes: 24 digits, 140 bits."""
    _check_count(entropy, ID_BYTES)
    return LoginId(_base58(entropy, _LOGIN_DIGITS))


def _base58(raw: bytes, digits: int) -> str:
    """Return the last `digits` base58 digits of a number, which `raw` exceeds or just fits."""
    number, text = int.from_bytes(raw), ""
    for _ in range(digits):
        number, digit = divmod(number, len(_ALPHABET))
        text = _ALPHABET[digit] + text
    return text


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _check_count(entropy: bytes, count: int) -> None:
    if len(entropy) != count:
        raise Invalid(f"{count} random bytes were expected")
