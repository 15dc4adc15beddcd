"""The key that the server's own secrets are sealed under.

    mskey-master-<key>-<check>      64 and 8 hex digits

The text carries a checksum, so that a key that was cut short or mistyped is told from one that is
whole and belongs to another server; that one is told by its `MasterKey.fingerprint`, which stands
beside everything sealed.

A secret is sealed with NaCl's secretbox under a key of its own, derived from the master key and
the secret's name: a sealed value that is moved to another name does not open.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from hashlib import blake2b
from hmac import compare_digest
from typing import Final

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from mergescale.kernel.errors import Invalid

#: Random bytes that a new key takes.
KEY_BYTES: Final = SecretBox.KEY_SIZE
#: Random bytes that `MasterKey.seal` takes.
NONCE_BYTES: Final = SecretBox.NONCE_SIZE

_CHECK_BYTES: Final = 4
_FINGERPRINT_BYTES: Final = 8
_TEXT: Final = re.compile(rf"mskey-master-([0-9a-f]{{{2 * KEY_BYTES}}})-([0-9a-f]{{8}})")


class Unopened(Invalid):
    """Raised when a sealed value was not sealed under this key and name, or was changed since."""

    code = "invalid.sealed"


@dataclass(frozen=True, slots=True)
class MasterKey:
    """32 bytes that must never be lost: without them nothing that was sealed opens again.

    Attributes:
        raw: `KEY_BYTES` bytes.
    """

    raw: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_BYTES:
            raise Invalid(f"a master key has {KEY_BYTES} bytes")

    @classmethod
    def parse(cls, text: str) -> MasterKey:
        """Read a key's text; white space around it does not count.

        Raises:
            Invalid: not a whole master key; the message does not repeat it.
        """
        found = _TEXT.fullmatch(text.strip())
        if found is None:
            raise Invalid("it is cut short or is no master key")
        raw = bytes.fromhex(found[1])
        if not compare_digest(_hash(raw, b"check", _CHECK_BYTES).hex(), found[2]):
            raise Invalid("its checksum is wrong, so some of it was changed")
        return cls(raw)

    @property
    def text(self) -> str:
        """The key as it is kept in a file or an environment variable."""
        return f"mskey-master-{self.raw.hex()}-{_hash(self.raw, b'check', _CHECK_BYTES).hex()}"

    @property
    def fingerprint(self) -> str:
        """16 hex digits that name the key and tell nothing of it."""
        return _hash(self.raw, b"fingerprint", _FINGERPRINT_BYTES).hex()

    def seal(self, name: str, value: bytes, nonce: bytes) -> bytes:
        """Return nonce, authenticator and ciphertext of a secret.

        Args:
            name: what the secret is called; needed to open it.
            value: the secret.
            nonce: `NONCE_BYTES` random bytes, never the same ones twice.
        """
        return bytes(self._box(name).encrypt(value, nonce))

    def open(self, name: str, sealed: bytes) -> bytes:
        """Return the secret that was sealed under this name.

        Raises:
            Unopened: it was not, or it was changed.
        """
        try:
            return self._box(name).decrypt(sealed)
        except (CryptoError, ValueError):
            raise Unopened("the sealed value does not open") from None

    def passphrase(self, name: str) -> bytes:
        """Return a passphrase for a file format that encrypts by itself, as PEM does."""
        return _hash(self.raw, b"passphrase", 32, name).hex().encode()

    def _box(self, name: str) -> SecretBox:
        return SecretBox(_hash(self.raw, b"seal", SecretBox.KEY_SIZE, name))


def _hash(key: bytes, purpose: bytes, size_bytes: int, name: str = "") -> bytes:
    """Return BLAKE2b keyed by the master key; purposes are apart by its personalisation."""
    return blake2b(name.encode(), key=key, person=b"ms " + purpose, digest_size=size_bytes).digest()
