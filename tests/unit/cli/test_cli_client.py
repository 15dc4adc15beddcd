"""What is said of connections that fail in ways a test cannot bring about everywhere."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from mergescale.cli.client import _unreachable
from mergescale.cli.target import Socket, Target, Url

SOCKET = Socket(Path("var/mergescale.sock"))
URL = Url("https", "m.example.com", 443)


@pytest.mark.parametrize(
    ("target", "error", "message", "help_"),
    [
        (
            SOCKET,
            PermissionError(13, "Permission denied"),
            "you may not open var/mergescale.sock",
            "be the user that runs the server, or use --server with an API token",
        ),
        (
            URL,
            TimeoutError("timed out"),
            "https://m.example.com did not answer within 30 s",
            "it may have done what was asked; look before you repeat it",
        ),
        (
            URL,
            ssl.SSLCertVerificationError(1, "self-signed certificate"),
            "the certificate of https://m.example.com is not trusted",
            "if it is your own authority's, name its file in SSL_CERT_FILE",
        ),
        (
            URL,
            OSError(-2, "Name or service not known"),
            "no server answers at https://m.example.com: name or service not known",
            "is the URL right, and does the server run?",
        ),
    ],
)
def test_each_failure_says_what_to_do(
    target: Target, error: OSError, message: str, help_: str
) -> None:
    """One line on what happened where, one on what to do about it."""
    told = _unreachable(target, error, 30)
    assert (told.message, told.help, told.exit_code) == (message, help_, 1)
