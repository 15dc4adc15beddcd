"""The head of an HTTP/1.1 request that asks to leave HTTP, and the two answers to it.

``server.edge`` reads the head and hands it to whoever claimed it (``control`` for ``/ts2021``,
``relay`` for ``/derp``), together with the socket. These are the values they exchange; they live
here because neither of those packages may know the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request line with its headers.

    Attributes:
        method: upper case, e.g. ``POST``.
        path: origin form, percent escapes removed, e.g. ``/ts2021``.
        query: what follows the question mark, as sent; maybe empty.
        headers: pairs in order of arrival; names in lower case.
        client: address and port of the other end; None on a unix socket.
        tls: whether the socket is encrypted.
    """

    method: str
    path: str
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    client: tuple[str, int] | None = None
    tls: bool = False

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of the header `name` (lower case), or None."""
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A refusal to switch protocols, as an HTTP response that ends the connection.

    Attributes:
        status: 400 to 599.
        text: one line for the person who reads the client's log.
    """

    status: int
    text: str

    def encode(self) -> bytes:
        """Return the response: status line, headers, text."""
        body = self.text.encode()
        head = (
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\n"
            "content-type: text/plain; charset=utf-8\r\n"
            f"content-length: {len(body)}\r\n"
            "connection: close\r\n\r\n"
        )
        return head.encode("ascii") + body


def switching_protocols(protocol: str, *headers: tuple[str, str]) -> bytes:
    """Return ``101 Switching Protocols`` to `protocol`, with more `headers` behind it.

    WIRE(capver all): Go compares the Upgrade value exactly as spelled (control/controlhttp).
    """
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        f"Upgrade: {protocol}",
        "Connection: upgrade",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Return authority and origin form of a request target.

    WIRE(capver 130): the Rust client sends absolute targets, ``https://h:1/key?v=1``, on all its
    HTTP/1.1 requests; that is ``(b"h:1", b"/key?v=1")``. Origin form has no authority.
    """
    scheme, separator, rest = target.partition(b"://")
    if target.startswith(b"/") or not separator or not scheme.isalpha():
        return b"", target
    end = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
    authority, path = rest[:end], rest[end:]
    return authority, path if path.startswith(b"/") else b"/" + path
