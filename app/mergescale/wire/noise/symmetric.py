"""Noise's SymmetricState over BLAKE2s, X25519 and ChaCha20-Poly1305 (Noise rev. 34, section 5.2).

The chaining key `ck` and the transcript hash `h` are one value per handshake; every token of the
pattern is one method call here.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from mergescale.kernel.errors import LocalProtocolError, RemoteProtocolError
from mergescale.kernel.keys import MachineKey, PrivateKey

PROTOCOL_NAME = b"Noise_IK_25519_ChaChaPoly_BLAKE2s"

_ZERO_NONCE = bytes(12)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key ready for use.

    Reading one costs as much as an agreement, because the public half is computed from it; so a
    handshake reads each of its keys once, and whoever has a key for long keeps its pair.

    Attributes:
        public: the public half, 32 bytes.
    """

    scalar: X25519PrivateKey = field(repr=False)
    public: bytes

    @classmethod
    def of(cls, private: PrivateKey) -> Self:
        """Read a private key."""
        scalar = X25519PrivateKey.from_private_bytes(private.raw)
        return cls(scalar, scalar.public_key().public_bytes_raw())

    def agree(self, public: bytes) -> bytes:
        """Return what only the two owners know; raise `RemoteProtocolError` for low order."""
        try:
            return self.scalar.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            # SPEC(noise 12.1): the result is all zero only for low-order points, which no honest
            # peer sends; accepting one would let anybody know the key.
            raise RemoteProtocolError("a handshake key is of low order") from None


def public_key(private: PrivateKey) -> MachineKey:
    """Return the public half of a private X25519 key."""
    return MachineKey(KeyPair.of(private).public)


def _hkdf(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
    """Derive two 32-byte keys (Noise section 4.3: HKDF with two outputs, HMAC-BLAKE2s)."""
    temp = hmac.digest(chaining_key, material, "blake2s")
    first = hmac.digest(temp, b"\x01", "blake2s")
    return first, hmac.digest(temp, first + b"\x02", "blake2s")


class SymmetricState:
    """Transcript hash, chaining key and the key of the moment.

    A key is derived right before each use and dropped after it, so every AEAD call of the
    handshake has nonce zero. After `split` nothing but `handshake_hash` may be touched:
    `LocalProtocolError`.
    """

    __slots__ = ("_chaining_key", "_hash", "_key")

    def __init__(self, prologue: bytes) -> None:
        # SPEC(noise 5.2): the name is 33 bytes, longer than a hash, so h = HASH(name), ck = h.
        self._hash = hashlib.blake2s(PROTOCOL_NAME).digest()
        self._chaining_key = self._hash
        self._key: bytes | None = None
        self.mix_hash(prologue)

    @property
    def handshake_hash(self) -> bytes:
        """The transcript hash `h`, 32 bytes."""
        return self._hash

    def mix_hash(self, data: bytes) -> None:
        """``h = HASH(h || data)``."""
        self._require_unsplit()
        self._hash = hashlib.blake2s(self._hash + data).digest()

    def mix_agreement(self, own: KeyPair, public: bytes) -> None:
        """``MixKey(DH(own, public))``; raise `RemoteProtocolError` for a low-order point."""
        self._require_unsplit()
        self._chaining_key, self._key = _hkdf(self._chaining_key, own.agree(public))

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        """Seal under the key of the moment with `h` as associated data, and mix the result."""
        sealed = ChaCha20Poly1305(self._take_key()).encrypt(_ZERO_NONCE, plaintext, self._hash)
        self.mix_hash(sealed)
        return sealed

    def decrypt_and_hash(self, sealed: bytes) -> bytes:
        """Open what the peer sealed; raise `RemoteProtocolError` when its tag is wrong."""
        try:
            opened = ChaCha20Poly1305(self._take_key()).decrypt(_ZERO_NONCE, sealed, self._hash)
        except InvalidTag:
            raise RemoteProtocolError("a handshake message does not decrypt") from None
        self.mix_hash(sealed)
        return opened

    def split(self) -> tuple[bytes, bytes]:
        """Return the keys initiator to responder and responder to initiator; end the handshake."""
        self._require_unsplit()
        keys = _hkdf(self._chaining_key, b"")
        self._chaining_key = b""
        return keys

    def _take_key(self) -> bytes:
        # INVARIANT(key used once): nonce zero is safe only because this forgets the key.
        key, self._key = self._key, None
        if key is None:
            raise LocalProtocolError("a handshake key is used once")
        return key

    def _require_unsplit(self) -> None:
        if not self._chaining_key:
            raise LocalProtocolError("the handshake is over")
