"""Certificates for 127.0.0.1 that nobody trusts, in PEM files."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mergescale.server.tls import CertificateFiles


def write(files: CertificateFiles, *, key: bool = True, certificate: bool = True) -> int:
    """Put a fresh pair, or one half of it, in place of the files; return its serial number."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    serial = x509.random_serial_number()
    made = (
        x509.CertificateBuilder(name, name, private.public_key(), serial)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2100, 1, 1, tzinfo=UTC))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(private, hashes.SHA256())
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    if certificate:
        replace(files.certificate, made.public_bytes(serialization.Encoding.PEM))
    if key:
        replace(files.key, pem)
    return serial


def replace(path: Path, content: bytes) -> None:
    """Put a file in the place of another one in one step, as who renews certificates does."""
    fresh = path.with_suffix(".fresh")
    fresh.write_bytes(content)
    fresh.replace(path)
