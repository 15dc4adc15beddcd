"""What gitops-pusher says on the wire, byte for byte, as Go's HTTP client writes it.

``apply`` reads its file while it sends it, so that body comes in chunks; ``test`` sends standard
JSON and calls it HuJSON.
"""

from __future__ import annotations

import base64
import json
import socket
from dataclasses import dataclass
from hashlib import sha256
from http.client import HTTPResponse

from mergescale.policy import hujson

_ACL = "/api/v2/tailnet/-/acl"
_HUJSON = "application/hujson"


@dataclass(frozen=True, slots=True)
class Said:
    """An answer."""

    status: int
    body: str
    etag: str


@dataclass(frozen=True, slots=True)
class GitopsPusher:
    """The tool with ``TS_API_KEY`` (as user name of basic), or with a token of its OAuth client."""

    port: int
    key: str
    bearer: bool = False

    @classmethod
    def of_client(cls, port: int, client_id: str, secret: str) -> GitopsPusher:
        """Get a token as ``TS_OAUTH_ID`` and ``TS_OAUTH_SECRET`` make the tool do."""
        basic = base64.b64encode(f"{client_id}:{secret}".encode()).decode()
        body = "grant_type=client_credentials"
        lines = [
            "POST /api/v2/oauth/token HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            "User-Agent: Go-http-client/1.1",
            f"Content-Length: {len(body)}",
            f"Authorization: Basic {basic}",
            "Content-Type: application/x-www-form-urlencoded",
            "Accept-Encoding: gzip",
        ]
        said = exchange(port, "\r\n".join([*lines, "", body]).encode())
        assert said.status == 200, said
        return cls(port, json.loads(said.body)["access_token"], bearer=True)

    def etag(self) -> str:
        """Ask for the tag of the policy in force; returns it without its quotes."""
        said = self._said("GET", _ACL, {"Accept": _HUJSON})
        assert said.status == 200, said
        return said.etag[1:-1]

    def test(self, text: str) -> Said:
        """Try a policy."""
        body = hujson.standardize(text).encode()
        return self._said("POST", f"{_ACL}/validate", {"Content-Type": _HUJSON}, body)

    def apply(self, text: str, over: str) -> Said:
        """Send a policy."""
        headers = {"Content-Type": _HUJSON, "If-Match": f'"{over}"'}
        return self._said("POST", _ACL, headers, text.encode(), chunked=True)

    def _said(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes = b"",
        *,
        chunked: bool = False,
    ) -> Said:
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        lines.append("User-Agent: Go-http-client/1.1")
        if chunked:
            lines.append("Transfer-Encoding: chunked")
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        elif method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        basic = base64.b64encode(f"{self.key}:".encode()).decode()
        whole = {**headers, "Authorization": f"Basic {basic}"}
        if self.bearer:
            whole["Authorization"] = f"Bearer {self.key}"
        lines += [f"{name}: {whole[name]}" for name in sorted(whole)]
        lines.append("Accept-Encoding: gzip")
        return exchange(self.port, "\r\n".join([*lines, "", ""]).encode() + body)


def exchange(port: int, request: bytes) -> Said:
    """Send bytes on a connection of its own; return the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(request)
        answer = HTTPResponse(connection)
        answer.begin()
        return Said(answer.status, answer.read().decode(), answer.getheader("etag", ""))


def local_etag(text: str) -> str:
    """Return what the tool compares its own file by."""
    return sha256(hujson.format(text).encode()).hexdigest()
