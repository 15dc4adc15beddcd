"""Asks a server, over HTTP or its unix socket; whatever goes wrong becomes one line.

The standard library's client on purpose: httpx takes longer to import than a whole command may
take, and one request at a time needs nothing of what it offers.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from mergescale import __version__
from mergescale.cli.errors import CommandFailed, ExitCode
from mergescale.cli.screen import printable
from mergescale.cli.target import Socket, Target, Url

#: LIMIT: seconds without a byte before a command gives up; longer where a handler waits for git.
TIMEOUT_S: Final = 30.0
#: LIMIT: of what is read of an answer; a listing of 100 000 devices has a third of it.
_ANSWER_BYTES: Final = 256 << 20
_V2: Final = "/api/v2"
#: In the path of the API: the tailnet of whoever asks.
_OWN_TAILNET: Final = "-"
#: What the secret of an OAuth client begins with; see ``identity.secrets``.
_OF_CLIENT: Final = "mskey-client-"


class Client:
    """One server, and the tailnet that is meant there.

    Attributes:
        target: where it is.
    """

    def __init__(self, target: Target, tailnet: str | None = None) -> None:
        self.target = target
        self._tailnet = tailnet
        self._access = ""

    def inside(
        self,
        method: str,
        *path: str,
        body: object = None,
        query: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Any:
        """Ask for something below the tailnet's own path; see `call`."""
        tailnet = self._tailnet or _OWN_TAILNET
        where = _address(_V2, "tailnet", tailnet, *path, query=query)
        return self._accepted(method, where, body, timeout_s)

    def call(
        self, method: str, *path: str, body: object = None, query: Mapping[str, str] | None = None
    ) -> Any:
        """Ask the API and return the JSON it answers with.

        Args:
            method: GET, POST, DELETE.
            *path: segments below ``/api/v2``; each is quoted.
            body: sent as JSON.
            query: parameters.

        Raises:
            CommandFailed: no answer, or one that says no.
        """
        named = {} if self._tailnet is None else {"tailnet": self._tailnet}
        where = _address(_V2, *path, query={**named, **(query or {})})
        return self._accepted(method, where, body, TIMEOUT_S)

    def outside(self, path: str) -> tuple[int, Any]:
        """GET something that is not the API's; return the status and the JSON."""
        status, raw = self._exchange("GET", path, None, TIMEOUT_S)
        return status, self._json(raw)

    def _accepted(self, method: str, where: str, body: object, timeout_s: float) -> Any:
        status, raw = self._exchange(method, where, body, timeout_s)
        if status < http.client.MULTIPLE_CHOICES:
            return self._json(raw)
        raise self._refused(status, raw)

    def _exchange(
        self, method: str, where: str, body: object, timeout_s: float
    ) -> tuple[int, bytes]:
        headers = {}
        sent = None
        if body is not None:
            sent = json.dumps(body).encode()
            headers["content-type"] = "application/json"
        if token := self._bearer():
            headers["authorization"] = f"Bearer {token}"
        return self._sent(method, where, sent, headers, timeout_s)

    def _bearer(self) -> str:
        """Return what is shown; who has the secret of an OAuth client gets a token for it first."""
        token = self.target.token
        if token is None or not token.text.startswith(_OF_CLIENT):
            return "" if token is None else token.text
        if not self._access:
            form = urlencode({"client_secret": token.text}).encode()
            headers = {"content-type": "application/x-www-form-urlencoded"}
            status, raw = self._sent("POST", f"{_V2}/oauth/token", form, headers, TIMEOUT_S)
            if status >= http.client.MULTIPLE_CHOICES:
                raise self._refused(status, raw)
            try:
                self._access = str(self._json(raw)["access_token"])
            except (KeyError, TypeError):
                raise _stranger(self.target) from None
        return self._access

    def _sent(
        self, method: str, where: str, sent: bytes | None, headers: dict[str, str], timeout_s: float
    ) -> tuple[int, bytes]:
        headers = {
            "accept": "application/json",
            "user-agent": f"mergescale/{__version__}",
            **headers,
        }
        connection = _connection(self.target, timeout_s)
        try:
            connection.request(method, where, sent, headers)
            answer = connection.getresponse()
            return answer.status, answer.read(_ANSWER_BYTES)
        except OSError as error:
            raise _unreachable(self.target, error, timeout_s) from error
        except http.client.HTTPException as error:
            raise _stranger(self.target) from error
        finally:
            connection.close()

    def _json(self, raw: bytes) -> Any:
        try:
            return json.loads(raw)
        except ValueError:
            raise _stranger(self.target) from None

    def _refused(self, status: int, raw: bytes) -> CommandFailed:
        """Return what the server said, with what to do about it."""
        if status == http.client.UNAUTHORIZED:
            return _unauthorized(self.target)
        if status < http.client.BAD_REQUEST:
            return CommandFailed(
                f"{self.target} sends elsewhere", help="give --server the URL it really has"
            )
        try:
            said = str(json.loads(raw)["message"])
        except (ValueError, KeyError, TypeError):
            return _stranger(self.target)
        message, _, help_ = printable(said).partition("; ")
        forbidden = status == http.client.FORBIDDEN
        code = ExitCode.AUTHENTICATION if forbidden else ExitCode.ERROR
        return CommandFailed(message, help=help_, exit_code=code)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path
        self._timeout_s = timeout_s

    def connect(self) -> None:
        """Connect; http.client calls this."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(self._timeout_s)
        try:
            sock.connect(self._path)
        except OSError:
            sock.close()
            raise
        self.sock = sock


def _connection(target: Target, timeout_s: float) -> http.client.HTTPConnection:
    match target:
        case Socket(path):
            return _UnixConnection(str(path), timeout_s)
        case Url("https", host, port):
            return http.client.HTTPSConnection(host, port, timeout=timeout_s)
        case Url(_, host, port):
            return http.client.HTTPConnection(host, port, timeout=timeout_s)


def _address(*path: str, query: Mapping[str, str] | None) -> str:
    first, *rest = path
    where = "/".join([first, *(quote(segment, safe="") for segment in rest)])
    return f"{where}?{urlencode(query)}" if query else where


def _unreachable(target: Target, error: OSError, timeout_s: float) -> CommandFailed:
    # By name: importing ssl only to compare would cost every command.
    if type(error).__name__ == "SSLCertVerificationError":
        return CommandFailed(
            f"the certificate of {target} is not trusted",
            help="if it is your own authority's, name its file in SSL_CERT_FILE",
        )
    if type(error).__name__ == "SSLError":
        return CommandFailed(
            f"{target} does not speak TLS",
            help="is it an http:// URL, or a port for something else?",
        )
    match error, target:
        case TimeoutError(), _:
            return CommandFailed(
                f"{target} did not answer within {timeout_s:g} s",
                help="it may have done what was asked; look before you repeat it",
            )
        case PermissionError(), Socket():
            return CommandFailed(
                f"you may not open {target}",
                help="be the user that runs the server, or use --server with an API token",
            )
        case _, Socket():
            return CommandFailed(
                f"no server answers at {target}: {_reason(error)}",
                help="`mergescale serve` starts one; --state-dir says where one of this machine"
                " keeps its files, --server and MERGESCALE_TOKEN reach one elsewhere",
            )
        case _:
            return CommandFailed(
                f"no server answers at {target}: {_reason(error)}",
                help="is the URL right, and does the server run?",
            )


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _stranger(target: Target) -> CommandFailed:
    return CommandFailed(
        f"what answers at {target} is not a Mergescale server",
        help="is the URL right? A proxy in between must pass /api/v2 on",
    )


def _unauthorized(target: Target) -> CommandFailed:
    if target.token is None:
        return CommandFailed(
            f"{target} wants an API token",
            help="put one into MERGESCALE_TOKEN; on the server's own machine"
            " `mergescale apikeys create` makes one",
            exit_code=ExitCode.AUTHENTICATION,
        )
    return CommandFailed(
        f"{target} does not accept the token of {target.token.origin}",
        help="it is expired, revoked or another server's; on the server's own machine"
        " `mergescale apikeys create` makes one",
        exit_code=ExitCode.AUTHENTICATION,
    )
