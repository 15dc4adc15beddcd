"""Smart HTTPS of git in this process, which can be told to behave in any way.

    with GitHttps(authority, repository.path) as remote:
        remote.behave = answers(503)

Every request is kept as it came, so that a test can say what was sent, and what was not.
"""

from __future__ import annotations

import contextlib
import http.server
import itertools
import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final

from support.authority import Authority

#: git protocol: a packet line with the service, then a flush.
_SERVICE: Final = b"001e# service=git-upload-pack\n0000"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class Exchange(http.server.BaseHTTPRequestHandler):
    """One connection; `remote` is set by the server's own subclass."""

    remote: GitHttps
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def give(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Answer in one piece."""
        self.begin(status, len(body), **headers)
        self.wfile.write(body)

    def begin(self, status: int, length: int, **headers: str) -> None:
        """Say how long the answer will be."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def pause(self, seconds: float) -> bool:
        """Wait, unless the test is over; say whether it is not."""
        return not self.remote.over.wait(seconds)

    def _serve(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size)
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        asked = Asked(self.command, self.path, dict(self.headers.items()), body)
        self.remote.asked.append(asked)
        with contextlib.suppress(OSError):
            self.remote.behave(self, asked)

    def _chunks(self) -> bytes:
        parts = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return parts


Behaviour = Callable[[Exchange, Asked], None]


class GitHttps:
    """A server on a port of 127.0.0.1.

    Args:
        authority: vouches for it.
        repository: a bare repository, served at ``/team/policy.git``.

    Attributes:
        behave: what is done with each request from now on; `good` serves the repository.
        asked: every request, oldest first.
        over: set when the server is closed.
    """

    def __init__(self, authority: Authority, repository: Path) -> None:
        self.repository = repository
        self.behave: Behaviour = good
        self.asked: list[Asked] = []
        self.over = threading.Event()
        bound = type("BoundExchange", (Exchange,), {"remote": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), bound)
        self._server.daemon_threads = True
        self._context = authority.context()
        self._server.socket = self._context.wrap_socket(
            # The handshake is the connection's own thread's.
            self._server.socket,
            server_side=True,
            do_handshake_on_connect=False,
        )
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    @property
    def base(self) -> str:
        return f"https://127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"{self.base}/team/policy.git"

    def sent(self, name: str) -> set[str]:
        """Return all values of a header that was sent."""
        return {
            value for one in self.asked for header, value in one.headers.items() if header == name
        }

    def __enter__(self) -> GitHttps:
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def good(exchange: Exchange, asked: Asked) -> None:
    """Serve the repository as ``git http-backend`` does."""
    advertises = asked.path.endswith("/info/refs?service=git-upload-pack")
    if not advertises and not asked.path.endswith("/git-upload-pack"):
        exchange.give(404)
        return
    kind = "advertisement" if advertises else "result"
    body = _SERVICE if advertises and not _version_2(asked) else b""
    body += upload_pack(exchange.remote.repository, asked, advertises=advertises)
    exchange.give(200, body, Content_Type=f"application/x-git-upload-pack-{kind}")


def upload_pack(repository: Path, asked: Asked, *, advertises: bool) -> bytes:
    """Return what git itself answers."""
    words = ["git", "-c", "safe.directory=*", "upload-pack", "--stateless-rpc"]
    words += ["--http-backend-info-refs"] if advertises else []
    body = asked.body
    done = subprocess.run(
        [*words, str(repository)],
        input=body,
        env={
            "PATH": os.environ["PATH"],
            "GIT_PROTOCOL": asked.headers.get("Git-Protocol", ""),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
        },
        capture_output=True,
        check=True,
    )
    return done.stdout


def _version_2(asked: Asked) -> bool:
    return "version=2" in asked.headers.get("Git-Protocol", "")


def answers(status: int, **headers: str) -> Behaviour:
    """Answer everything with this status."""
    return lambda exchange, _: exchange.give(status, b"nothing here", **headers)


def trickles(exchange: Exchange, asked: Asked) -> None:
    """Serve the repository one byte a second."""
    _paced(exchange, asked, 1, 1.0)


def stalls(exchange: Exchange, asked: Asked) -> None:
    """Serve the repository, but stop in the middle of the pack and say nothing any more."""
    if b"command=fetch" not in asked.body:
        good(exchange, asked)
        return
    body = upload_pack(exchange.remote.repository, asked, advertises=False)
    exchange.begin(200, len(body), Content_Type="application/x-git-upload-pack-result")
    exchange.wfile.write(body[: len(body) // 2])
    exchange.pause(60)


def breaks_off(exchange: Exchange, asked: Asked) -> None:
    """Serve the repository, but close the connection in the middle of the pack."""
    if b"command=fetch" not in asked.body:
        good(exchange, asked)
        return
    body = upload_pack(exchange.remote.repository, asked, advertises=False)
    exchange.begin(200, len(body), Content_Type="application/x-git-upload-pack-result")
    exchange.wfile.write(body[: len(body) // 2])
    exchange.close_connection = True


def never_ends(exchange: Exchange, asked: Asked) -> None:
    """Serve the repository, but name branches for ever."""
    if b"command=ls-refs" not in asked.body:
        good(exchange, asked)
        return
    exchange.begin(200, 1 << 40, Content_Type="application/x-git-upload-pack-result")
    lines = (f"{number:040x} refs/heads/branch-{number:012}" for number in itertools.count())
    while not exchange.remote.over.is_set():
        some = "".join(f"{len(line) + 5:04x}{line}\n" for line in itertools.islice(lines, 2000))
        exchange.wfile.write(some.encode())


def speaks_nonsense(exchange: Exchange, _: Asked) -> None:
    """Answer what is no git, and would write to terminals."""
    body = b"0005\x1b[31m" + bytes(range(256)) * 4
    exchange.give(200, body, Content_Type="application/x-git-upload-pack-advertisement")


def _paced(exchange: Exchange, asked: Asked, size: int, pause_s: float) -> None:
    body = upload_pack(exchange.remote.repository, asked, advertises=asked.method == "GET")
    kind = "advertisement" if asked.method == "GET" else "result"
    exchange.begin(200, len(body), Content_Type=f"application/x-git-upload-pack-{kind}")
    for at in range(0, len(body), size):
        exchange.wfile.write(body[at : at + size])
        if not exchange.pause(pause_s):
            return


def alternates(elsewhere: str, commit: str) -> Behaviour:
    """Serve as plain files do, and say that the objects lie at another address."""
    plain = {
        "/info/refs": f"{commit}\trefs/heads/main\n",
        "/HEAD": "ref: refs/heads/main\n",
        "/objects/info/http-alternates": f"{elsewhere}/objects\n",
    }

    def behave(exchange: Exchange, asked: Asked) -> None:
        for end, text in plain.items():
            if asked.path.split("?")[0].endswith(end):
                exchange.give(200, text.encode(), Content_Type="text/plain")
                return
        exchange.give(404)

    return behave


def guarded(authorization: str, inner: Behaviour = good) -> Behaviour:
    """Serve only who sends this header."""

    def behave(exchange: Exchange, asked: Asked) -> None:
        if asked.headers.get("Authorization") == authorization:
            inner(exchange, asked)
        else:
            exchange.give(401, WWW_Authenticate='Basic realm="policy"')

    return behave
