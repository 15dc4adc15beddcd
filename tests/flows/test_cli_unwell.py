"""What the command line says when the server is not there, not well, or not one of ours."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from support.command_line import CommandLine, Ended
from support.real_clients import free_port

pytestmark = pytest.mark.enable_socket

HINT = (
    "help: `mergescale serve` starts one; --state-dir says where one of this machine keeps its"
    " files, --server and MERGESCALE_TOKEN reach one elsewhere\n"
)


@contextmanager
def answering(status: int, body: bytes) -> Iterator[tuple[str, list[str]]]:
    """Run a stranger's server that always says the same; yields its URL and the paths asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its word
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def test_no_socket_says_how_to_go_on(tmp_path: Path) -> None:
    """Where the socket was looked for, and the three ways to a server."""
    cli = CommandLine(("--state-dir", str(tmp_path)))
    where = tmp_path / "mergescale.sock"
    error = f"error: no server answers at {where}: no such file or directory\n"
    assert cli("nodes", "list") == Ended(1, "", error + HINT)
    assert cli("health") == Ended(1, "", error + HINT)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(where))
    error = f"error: no server answers at {where}: connection refused\n"
    assert cli("nodes", "list") == Ended(1, "", error + HINT)


def test_nobody_at_a_url() -> None:
    """The URL, what happened, what to look at."""
    url = f"http://127.0.0.1:{free_port()}"
    assert CommandLine(("--server", url))("nodes", "list") == Ended(
        1,
        "",
        f"error: no server answers at {url}: connection refused\n"
        "help: is the URL right, and does the server run?\n",
    )


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>"), (404, b"<html>"), (500, b'"text"'), (502, b"{}")]
)
def test_a_stranger_is_recognised(status: int, body: bytes) -> None:
    """A proxy's page or another program's answer is not shown as if it were ours."""
    with answering(status, body) as (url, _):
        ended = CommandLine(("--server", url))("nodes", "list")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(f"error: what answers at {url} is not a Mergescale server\nhelp: ")


def test_a_redirect_is_not_followed() -> None:
    """It would carry the token elsewhere."""
    with answering(302, b"") as (url, asked):
        ended = CommandLine(("--server", url))("nodes", "list")
    assert ended == Ended(
        1, "", f"error: {url} sends elsewhere\nhelp: give --server the URL it really has\n"
    )
    assert len(asked) == 1


def test_tls_where_there_is_none() -> None:
    """The usual mistake is https for http."""
    with answering(200, b"{}") as (url, _):
        ended = CommandLine(("--server", url.replace("http:", "https:")))("nodes", "list")
    assert (
        ended.err.splitlines()[0] == f"error: {url.replace('http:', 'https:')} does not speak TLS"
    )


def test_what_a_server_says_cannot_act_on_the_terminal() -> None:
    """Control characters of an error's text are replaced."""
    with answering(400, b'{"message": "bad \\u001b[2J thing; do\\nthis"}') as (url, _):
        ended = CommandLine(("--server", url))("nodes", "list")
    assert (
        ended.err
        == "error: bad \N{REPLACEMENT CHARACTER}[2J thing\nhelp: do\N{REPLACEMENT CHARACTER}this\n"
    )


def test_ids_cannot_leave_their_place_in_the_path() -> None:
    """Whatever is typed as an id is one segment."""
    with answering(404, b'{"message": "no such login"}') as (url, asked):
        CommandLine(("--server", url))("auth", "reject", "..?x=#%2e")
        CommandLine(("--server", url, "--tailnet", "a/../b"))("apikeys", "revoke", "../../users/1")
    assert asked == [
        "/api/v2/logins/..%3Fx%3D%23%252e/reject",
        "/api/v2/tailnet/a%2F..%2Fb/keys/..%2F..%2Fusers%2F1",
    ]


def test_a_sick_server_is_told_by_the_exit_code() -> None:
    """`health` shows which part fails, and ends with 1, for the container's health check."""
    body = (
        b'{"status": "fail", "version": "0.1.0",'
        b' "checks": {"database": [{"status": "fail", "output": "no answer"}]}}'
    )
    with answering(503, body) as (url, _):
        ended = CommandLine(("--server", url))("health")
    assert ended == Ended(
        1,
        "PART      STATE  WHY\nserver    fail   version 0.1.0\ndatabase  fail   no answer\n",
        "",
    )
