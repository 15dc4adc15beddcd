"""The certificate of the main listener follows its files."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from structlog.testing import capture_logs

from mergescale.kernel.errors import Invalid
from mergescale.server.listeners import TcpListener
from mergescale.server.tls import Certificate, CertificateFiles
from support.aio import aio
from support.bridged import echo
from support.noise_server import serving

pytestmark = pytest.mark.enable_socket


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


@pytest.fixture
def files(tmp_path: Path) -> CertificateFiles:
    return CertificateFiles(tmp_path / "cert.pem", tmp_path / "key.pem")


class Visitor:
    """A TLS connection that stays open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, port: int, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Visitor:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = version
        context.set_alpn_protocols(["h2", "http/1.1"])
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=context))

    @property
    def serial(self) -> int:
        der = self.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(der).serial_number

    @property
    def protocol(self) -> str | None:
        chosen: str | None = self.writer.get_extra_info("ssl_object").selected_alpn_protocol()
        return chosen

    async def asks(self) -> bytes:
        self.writer.write(b"GET /key HTTP/1.1\r\nHost: h\r\n\r\n")
        return await self.reader.readuntil(b"\r\n")


@aio
async def test_new_handshakes_get_the_new_certificate(files: CertificateFiles) -> None:
    """Also without a server name and with TLS 1.2; a connection that is open goes on."""
    first = write(files)
    certificate = Certificate(files)
    listener = TcpListener("127.0.0.1", 0, certificate.context)
    async with serving(echo, listeners=[listener]) as at:
        await _renewed(files, certificate, at.port, first)


async def _renewed(
    files: CertificateFiles, certificate: Certificate, port: int, first: int
) -> None:
    before = await Visitor.to(port)
    assert before.serial == first
    second = write(files)
    assert certificate.look()
    after = await Visitor.to(port)
    older = await Visitor.to(port, ssl.TLSVersion.TLSv1_2)
    assert (after.serial, older.serial) == (second, second)
    assert (after.protocol, older.protocol) == ("http/1.1", "http/1.1")
    for visitor in (before, after, older):
        assert await visitor.asks() == b"HTTP/1.1 200 OK\r\n"
        visitor.writer.close()


def test_files_that_did_not_change_are_not_read(files: CertificateFiles) -> None:
    """A look costs two calls of the system."""
    write(files)
    certificate = Certificate(files)
    with capture_logs() as logs:
        assert not certificate.look()
    assert logs == []


@aio
async def test_bad_files_keep_the_old_certificate(files: CertificateFiles) -> None:
    """Half of a pair, nonsense, nothing: told once each, and the next good pair is taken."""
    good = write(files)
    certificate = Certificate(files)
    listener = TcpListener("127.0.0.1", 0, certificate.context)
    async with serving(echo, listeners=[listener]) as at:
        with capture_logs() as logs:
            write(files, key=False)
            assert (certificate.look(), certificate.look()) == (False, False)
            replace(files.key, b"no key")
            assert not certificate.look()
            files.key.unlink()
            assert not certificate.look()
            visitor = await Visitor.to(at.port)
            assert visitor.serial == good
            visitor.writer.close()
            newest = write(files)
            assert certificate.look()
        assert [entry["event"] for entry in logs] == ["tls.kept"] * 3 + ["tls.reloaded"]
        visitor = await Visitor.to(at.port)
        assert visitor.serial == newest
        visitor.writer.close()


def test_a_server_does_not_start_with_bad_files(files: CertificateFiles) -> None:
    """There is no certificate to keep."""
    write(files, key=False)
    with pytest.raises(Invalid, match="cannot be used"):
        Certificate(files)
