"""TLS of the main listener, from the files an operator names."""

from __future__ import annotations

import ssl

from mergescale.kernel.errors import Invalid
from mergescale.server.settings import Settings


def server_context(settings: Settings) -> ssl.SSLContext | None:
    """Return the TLS server side, None without a certificate.

    Raises:
        Invalid: the files cannot be read or do not belong together.
    """
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(
            f'the certificate "{settings.tls_certificate}" and the key "{settings.tls_key}" '
            f"cannot be used: {error.strerror or 'they do not belong together'}"
        ) from error
    # WIRE(ts2021, derp): HTTP/2 cannot switch protocols, so it is not offered.
    context.set_alpn_protocols(["http/1.1"])
    return context
