"""Private keys as people keep them: read without a passphrase, or refused in words that help."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from mergescale.kernel.errors import Invalid

#: LIMIT: an RSA key of 16384 bits in PEM has 13 KB; far below what a pipe holds at once.
LONGEST_KEY: Final = 16 << 10
_SMALLEST_RSA: Final = 2048
_OPENSSH: Final = b"-----BEGIN OPENSSH PRIVATE KEY-----"
_ENCRYPTED: Final = re.compile(r"ENCRYPTED|Proc-Type: 4")

PrivateKey = Ed25519PrivateKey | RSAPrivateKey | EllipticCurvePrivateKey


def new_key() -> str:
    """Return a new ed25519 key in OpenSSH's format."""
    return _openssh(Ed25519PrivateKey.generate())


def ssh_key(text: str) -> str:
    """Return a key of any common format in OpenSSH's.

    Raises:
        Invalid: it is none that ssh could use without asking anybody.
    """
    return _openssh(_private_key(text))


def app_key(text: str) -> str:
    """Return an RSA key, as GitHub makes them for apps, in PEM (PKCS 8).

    Raises:
        Invalid: it is none.
    """
    return _rsa(text).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_line(text: str) -> str:
    """Return the public half, as forges and ``authorized_keys`` take it."""
    public = _private_key(text).public_key()
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() + " mergescale"


def ssh_fingerprint(text: str) -> str:
    """Return the fingerprint of a key's public half, as ssh-keygen prints it."""
    return fingerprint(base64.b64decode(public_line(text).split()[1]))


def app_fingerprint(text: str) -> str:
    """Return the fingerprint of an app's key, as GitHub shows it."""
    public = _rsa(text).public_key()
    spelled = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return fingerprint(spelled, pad=True)


def fingerprint(spelled: bytes, *, pad: bool = False) -> str:
    """Return ``SHA256:…`` of a public key's bytes."""
    text = base64.b64encode(hashlib.sha256(spelled).digest()).decode()
    return f"SHA256:{text if pad else text.rstrip('=')}"


def _private_key(text: str) -> PrivateKey:
    """Read a deploy key of any common format."""
    raw = _key_bytes(text)
    load = load_ssh_private_key if _OPENSSH in raw else load_pem_private_key
    try:
        key = load(raw, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unreadable(text, error) from None
    if isinstance(key, RSAPrivateKey) and key.key_size < _SMALLEST_RSA:
        raise Invalid(f"privateKey is an RSA key of less than {_SMALLEST_RSA} bits")
    if not isinstance(key, PrivateKey):
        raise Invalid("privateKey is of a kind that ssh does not use any more")
    return key


def _rsa(text: str) -> RSAPrivateKey:
    try:
        key = load_pem_private_key(_key_bytes(text), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unreadable(text, error) from None
    if not isinstance(key, RSAPrivateKey) or key.key_size < _SMALLEST_RSA:
        raise Invalid(f"privateKey is no RSA key of {_SMALLEST_RSA} bits or more, as GitHub's are")
    return key


def _key_bytes(text: str) -> bytes:
    if len(text) > LONGEST_KEY or not text.isascii():
        raise Invalid("privateKey is too long or holds characters that no key has")
    return text.strip().encode() + b"\n"


def _unreadable(text: str, error: Exception) -> Invalid:
    if isinstance(error, TypeError) or "password" in str(error) or _ENCRYPTED.search(text):
        return Invalid(
            "privateKey is protected by a passphrase, which the server cannot ask anybody for",
            help="make a key without one for this purpose; it is kept encrypted here",
        )
    return Invalid("privateKey is no private key", help="give the whole file, with its first line")


def _openssh(key: PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
