"""The relay's own TLS certificate, for servers whose main port has no TLS.

Clients insist on TLS towards a DERP relay. The server makes a self-signed certificate and pins it
in the DERPMap (``CertName: "sha256-raw:<hex>"``, tailcfg.DERPNode), so that no client needs to
trust a new authority. A second, "meta" certificate in the chain tells the relay's public key
during the handshake (common name ``derpkey<hex>``, serial number = protocol version, spec 7.1);
clients then skip a round trip ("fast start").
"""

from __future__ import annotations

import os
import ssl
import warnings
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from mergescale.kernel.keys import NodeKey
from mergescale.server.settings import is_address

#: LIMIT: the pin decides, not the date; long, so that nobody has to think of renewing it.
_LIFE: Final = timedelta(days=20 * 365)
_NAME: Final = "Mergescale DERP relay"
#: tailscale derp.ProtocolVersion, the meta certificate's serial number.
_DERP_VERSION: Final = 2


@dataclass(frozen=True, slots=True)
class RelayCertificate:
    """A chain on disk and its pin.

    Attributes:
        path: PEM file: key (encrypted), certificate, meta certificate.
        pin: tailcfg.DERPNode.CertName.
        passphrase: what the key is encrypted with.
    """

    path: Path
    pin: str
    passphrase: bytes = field(repr=False)

    def context(self) -> ssl.SSLContext:
        """Return the TLS server side; HTTP/1.1 only, as DERP upgrades need (spec 7.1)."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.path, password=self.passphrase)
        context.set_alpn_protocols(["http/1.1"])
        return context


def relay_certificate(
    path: Path, *, host: str, relay_key: NodeKey, passphrase: bytes, now: datetime
) -> RelayCertificate:
    """Return the certificate kept at `path`.

    It is made anew when it is for another host or key, or when its key does not open with the
    passphrase: clients learn the new pin with their next map.
    """
    kept = _read(path, host, relay_key, passphrase)
    if kept is not None:
        return kept
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = _leaf(key, host, now)
    meta = _meta(relay_key, now)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase),
    ) + b"".join(
        certificate.public_bytes(serialization.Encoding.PEM) for certificate in (leaf, meta)
    )
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
    fresh.replace(path)
    return RelayCertificate(path, _pin(leaf), passphrase)


def _read(path: Path, host: str, relay_key: NodeKey, passphrase: bytes) -> RelayCertificate | None:
    if not path.exists():
        return None
    pem = path.read_bytes()
    if not _opens(pem, passphrase):
        return None
    leaf, meta = x509.load_pem_x509_certificates(pem)
    # The name is looked for in the bytes: parsing it warns about its length, see `_builder`.
    is_ours = _meta_name(relay_key).encode() in meta.public_bytes(serialization.Encoding.DER)
    fits = is_ours and _host(leaf) == host
    return RelayCertificate(path, _pin(leaf), passphrase) if fits else None


def _opens(pem: bytes, passphrase: bytes) -> bool:
    """Say whether the key is encrypted with this passphrase; one of an earlier version is not."""
    try:
        serialization.load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError):
        return False
    return True


def _leaf(key: ec.EllipticCurvePrivateKey, host: str, now: datetime) -> x509.Certificate:
    name = x509.IPAddress(ip_address(host)) if is_address(host) else x509.DNSName(host)
    builder = _builder(_NAME, now).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    return builder.add_extension(x509.SubjectAlternativeName([name]), critical=False).sign(
        key, hashes.SHA256()
    )


def _meta(relay_key: NodeKey, now: datetime) -> x509.Certificate:
    key = ed25519.Ed25519PrivateKey.generate()
    builder = _builder(_meta_name(relay_key), now).public_key(key.public_key())
    return builder.serial_number(_DERP_VERSION).sign(key, None)


def _builder(common_name: str, now: datetime) -> x509.CertificateBuilder:
    with warnings.catch_warnings():
        # WIRE(derp): RFC 5280 gives a common name 64 characters, the meta name has 71. Clients
        # look for exactly that, and nobody verifies the meta certificate.
        warnings.simplefilter("ignore", UserWarning)
        attribute = x509.NameAttribute(NameOID.COMMON_NAME, common_name, _validate=False)
    name = x509.Name([attribute])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + _LIFE)
    )


def _meta_name(relay_key: NodeKey) -> str:
    return "derpkey" + relay_key.raw.hex()


def _host(leaf: x509.Certificate) -> str:
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return str(names[0].value)


def _pin(certificate: x509.Certificate) -> str:
    return "sha256-raw:" + sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()
