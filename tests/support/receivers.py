"""What takes notifications on loopback: an HTTP receiver and a mail server, each on a thread."""

from __future__ import annotations

import base64
import contextlib
import email
import socketserver
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(slots=True)
class Receiver:
    """Answers every POST as the test says.

    Attributes:
        took: (path, headers by lower-case name, body) of each.
        status: what is answered next.
        headers: of the answers.
        body: of the answers.
    """

    url: str = ""
    took: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"ok"


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.took.append((self.path, headers, body))
            self.send_response(receiver.status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(receiver.body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(receiver.body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's
            pass

    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        receiver.url = f"http://127.0.0.1:{port}"
        yield receiver


@dataclass(slots=True)
class MailServer:
    """Takes mail as the test says.

    Attributes:
        took: (sender, receivers, message) of each.
        said: every command, as it came.
        logins: (user, password).
        answers: command -> what it is answered in place of the usual.
        context: makes it offer STARTTLS.
    """

    port: int = 0
    took: list[tuple[str, list[str], Message]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    context: ssl.SSLContext | None = None


@contextlib.contextmanager
def mailing(context: ssl.SSLContext | None = None) -> Iterator[MailServer]:
    server = MailServer(context=context)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                _Talk(server, self.request).run()

    with _serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)) as server.port:
        yield server


class _Talk:
    """One connection: enough of SMTP (RFC 5321), STARTTLS and AUTH PLAIN for a client."""

    def __init__(self, server: MailServer, connection: Any) -> None:
        self._server = server
        self._connection = connection
        self._file = connection.makefile("rb")
        self._sender, self._receivers = "", list[str]()

    def run(self) -> None:
        try:
            self._talk()
        finally:
            self._file.close()
            self._connection.close()

    def _talk(self) -> None:
        self._answer("220 here")
        while line := self._file.readline().decode().strip():
            self._server.said.append(line)
            word = line.split()[0].upper()
            if word == "QUIT":
                self._answer("221 bye")
                return
            self._answer(self._server.answers.get(word) or self._does(word, line))
            if word == "STARTTLS" and self._server.context is not None:
                wrap = self._server.context.wrap_socket
                self._connection = wrap(self._connection, server_side=True)
                self._file = self._connection.makefile("rb")

    def _does(self, word: str, line: str) -> str:
        match word:
            case "EHLO":
                offers = ["STARTTLS"] if self._server.context is not None else []
                lines = ["here", *offers, "AUTH PLAIN"]
                return "\r\n".join([*(f"250-{one}" for one in lines[:-1]), f"250 {lines[-1]}"])
            case "AUTH":
                _, user, password = base64.b64decode(line.split()[2]).decode().split("\0")
                self._server.logins.append((user, password))
                return "235 welcome"
            case "MAIL":
                self._sender = line.partition("<")[2].partition(">")[0]
            case "RCPT":
                self._receivers.append(line.partition("<")[2].partition(">")[0])
            case "DATA":
                return self._data()
            case "STARTTLS":
                return "220 go on" if self._server.context is not None else "502 no"
        return "250 fine"

    def _data(self) -> str:
        self._answer("354 go on")
        lines = list(iter(self._file.readline, b".\r\n"))
        message = email.message_from_bytes(b"".join(lines))
        self._server.took.append((self._sender, self._receivers, message))
        return "250 kept"

    def _answer(self, text: str) -> None:
        self._connection.sendall(f"{text}\r\n".encode())


@contextlib.contextmanager
def _serving(server: socketserver.TCPServer) -> Iterator[int]:
    """Serve on a thread; yields the port."""
    if isinstance(server, socketserver.ThreadingMixIn):
        server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
