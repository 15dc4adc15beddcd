"""TLS of the main listener, from the files an operator names, read again when they change."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from mergescale.kernel.errors import Invalid
from mergescale.server.settings import Settings

log = structlog.get_logger()

#: How often the files are looked at; renewal happens days before the old certificate ends.
LOOK_S: Final = 5.0

#: What tells a file that was written anew from the one before: device, inode, size, nanoseconds.
Stamp = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """PEM files: the certificate with its chain, and its private key."""

    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """Return the TLS server side.

        Raises:
            Invalid: the files cannot be read or do not belong together.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            # Without the callback OpenSSL asks for the passphrase of a key on the terminal.
            context.load_cert_chain(self.certificate, self.key, lambda: "")
        except (OSError, ssl.SSLError) as error:
            raise Invalid(
                f'the certificate "{self.certificate}" and the key "{self.key}" '
                f"cannot be used: {error.strerror or 'they do not belong together'}"
            ) from error
        # WIRE(ts2021, derp): HTTP/2 cannot switch protocols, so it is not offered.
        context.set_alpn_protocols(["http/1.1"])
        return context

    def stamps(self) -> tuple[Stamp | None, Stamp | None]:
        """Return what changes when the files do; None for one that is not there."""
        return _stamp(self.certificate), _stamp(self.key)


class Certificate:
    """A listener's context that gives every new handshake the newest good certificate.

    Connections that are open keep theirs. Files that cannot be used change nothing: the last good
    certificate stays, and the log says so once for each attempt.

    Attributes:
        context: for the listener; the same for ever.
    """

    def __init__(self, files: CertificateFiles) -> None:
        """Read the files.

        Raises:
            Invalid: the files cannot be read or do not belong together.
        """
        self._files = files
        self._stamps = files.stamps()
        self._newest = self.context = files.context()
        # OpenSSL calls it in every handshake, also when the client names no server, and takes
        # certificate and key from the context set here together: no handshake gets half of both.
        self.context.sni_callback = self._choose

    def look(self) -> bool:
        """Read the files if they changed; return whether there is a new certificate. Blocks."""
        stamps = self._files.stamps()
        if stamps == self._stamps:
            return False
        # Taken before the files are read: what is written meanwhile is seen the next time.
        self._stamps = stamps
        try:
            self._newest = self._files.context()
        except Invalid as error:
            log.error("tls.kept", why=error.message)  # noqa: TRY400 - no traceback is wanted
            return False
        log.info("tls.reloaded", certificate=str(self._files.certificate))
        return True

    async def watch(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(self.look)

    def _choose(
        self, sock: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext
    ) -> int | None:
        sock.context = self._newest
        return None


def certificate_files(settings: Settings) -> CertificateFiles | None:
    """Return what the settings name, None without TLS."""
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    return CertificateFiles(settings.tls_certificate, settings.tls_key)


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
