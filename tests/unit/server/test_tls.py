"""The certificate of the main listener follows its files."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from structlog.testing import capture_logs

from mergescale.kernel.errors import Invalid
from mergescale.server import tls
from mergescale.server.listeners import TcpListener
from mergescale.server.tls import Certificate, CertificateFiles
from support.aio import aio, until
from support.bridged import echo
from support.certificates import replace, write
from support.noise_server import serving

pytestmark = pytest.mark.enable_socket


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


@aio
async def test_the_watch_finds_what_changes(
    files: CertificateFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it serves: good files are taken, bad ones are told and change nothing, good ones again."""
    monkeypatch.setattr(tls, "LOOK_S", 0.01)
    first = write(files)
    certificate = Certificate(files)
    listener = TcpListener("127.0.0.1", 0, certificate.context)
    async with serving(echo, listeners=[listener]) as at, asyncio.TaskGroup() as group:
        watching = group.create_task(certificate.watch())
        with capture_logs() as logs:
            assert await served(at.port) == first
            for heard in range(1, 3):
                newest = write(files)
                await until(lambda said=heard: told(logs, "tls.reloaded") == said)  # type: ignore[misc]
                assert await served(at.port) == newest
                replace(files.certificate, b"no certificate")
                await until(lambda said=heard: told(logs, "tls.kept") == said)  # type: ignore[misc]
                assert await served(at.port) == newest
        watching.cancel()


def told(logs: list[Any], event: str) -> int:
    return [entry["event"] for entry in logs].count(event)


async def served(port: int) -> int:
    """Return the serial number that a new handshake sees."""
    visitor = await Visitor.to(port)
    try:
        return visitor.serial
    finally:
        visitor.writer.close()
