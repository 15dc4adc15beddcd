"""Flaws that web frameworks had, tried on our own server process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from mergescale.control.upgrade import PROTOCOL
from mergescale.state.throttle import API_TOKEN
from support.aio import aio
from support.server_process import Api, ServerProcess, serving

pytestmark = pytest.mark.enable_socket

#: Ways out of a folder that servers fell for: dots in every spelling, absolute paths, NUL, drives.
TRAVERSALS = [
    *("../../pyproject.toml", "..%2f..%2fsettings.py", "%2e%2e/%2e%2e/settings.py", "..%5c..%5cx"),
    *("....//....//etc/passwd", "/etc/passwd", "%2fetc%2fpasswd", "..%252f..%252fetc/passwd"),
    *("icon.svg%00.css", "..%c0%afassets.py", "./../assets.py", "..;/assets.py", "C:%5cwindows"),
    *("__init__.py", "..%2fassets.py", "static/icon.svg", "%ef%bc%8e%ef%bc%8e/assets.py", ""),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, Api]]:
    """A server, and its API."""
    server = ServerProcess(tmp_path_factory.mktemp("web") / "state")
    with serving(server) as api:
        yield server, api


def ask(server: ServerProcess, target: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Send a target exactly as it is, which a well-behaved client would tidy up."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("GET", target, headers=headers)
        answer = connection.getresponse()
        told = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, told, answer.read()
    finally:
        connection.close()


def complaints(server: ServerProcess) -> int:
    """Return how many tracebacks are in the log."""
    return server.log.read_text("utf-8", "replace").count("Traceback")


@pytest.mark.parametrize("path", ["/ts2021", "/derp", "/health"])
@pytest.mark.parametrize(
    "name", [b"Sec-WebSocket-Protocol", b"Sec-WebSocket-Key", b"Sec-WebSocket-Extensions"]
)
@aio
async def test_a_websocket_header_that_is_no_ascii_harms_nobody(
    site: tuple[ServerProcess, Api], path: str, name: bytes
) -> None:
    """Each is answered or hung up on; the process is the same one and complains of no bug."""
    server, _ = site
    assert server.process is not None
    said = complaints(server)
    for value in ("ü,derp".encode(), b"\xff\xfe", b"derp, \x80", PROTOCOL.encode() + b"\xe2\x82"):
        good = {
            b"Host": b"x",
            b"Connection": b"Upgrade",
            b"Upgrade": b"websocket",
            b"Sec-WebSocket-Version": b"13",
            b"Sec-WebSocket-Key": b"dGhlIHNhbXBsZSBub25jZQ==",
            b"Sec-WebSocket-Protocol": b"derp",
        }
        lines = [b": ".join(pair) for pair in {**good, name: value}.items()]
        head = b"\r\n".join([f"GET {path} HTTP/1.1".encode(), *lines, b"", b""])
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head)
        status = await reader.readline()
        assert status == b"" or status.split()[1] in {b"101", b"400", b"403", b"404", b"200"}
        writer.close()
    assert server.process.poll() is None
    assert complaints(server) == said


@pytest.mark.parametrize("name", TRAVERSALS)
def test_no_file_but_the_static_ones_is_served(site: tuple[ServerProcess, Api], name: str) -> None:
    """Whatever a path is spelled like, it is a name among a few, not a place on a disk."""
    server, _ = site
    said = complaints(server)
    status, _, body = ask(server, f"/static/{name}")
    assert status in {400, 404}
    assert b"import" not in body
    assert b"root:" not in body
    assert complaints(server) == said


def test_a_form_of_very_many_parts_is_not_read(site: tuple[ServerProcess, Api]) -> None:
    """No handler takes forms: a million parts end at the size of a body, a few at their type.

    Whoever is still sending when the answer has come is hung up on, and may not see the answer.
    """
    server, api = site
    part = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    headers = {"content-type": "multipart/form-data; boundary=x", "connection": "close"}
    for parts, statuses in ((100, {400, 415}), (100_000, {413})):
        for path in ("/tailnet/-/keys", "/users"):
            try:
                answer = api.http.post(path, content=part * parts + b"--x--\r\n", headers=headers)
            except (httpx.RemoteProtocolError, httpx.WriteError, httpx.ReadError):
                assert statuses == {413}
                continue
            assert answer.status_code in (statuses | {404, 405} if path == "/users" else statuses)
    assert server.healthy()


def test_no_other_origin_is_let_in(site: tuple[ServerProcess, Api]) -> None:
    """No origin is ever looked at, so no spelling of one is mistaken for a good one."""
    server, _ = site
    for origin in (server.url, "https://eXample.com", "https://example.com.evil.com", "null"):
        preflight = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        for target in ("/api/openapi.json", "/health", "/", "/key?v=130"):
            _, told, _ = ask(server, target, **preflight)
            said = {name: told[name] for name in told if name.startswith("access-control")}
            # The public key is for clients in browsers, wherever those come from.
            public = {"access-control-allow-origin": "*"} if target.startswith("/key") else {}
            assert said == public


def test_answers_are_not_kept_for_somebody_else(site: tuple[ServerProcess, Api]) -> None:
    """What looks alike is not the same, and nothing but a static file may be cached."""
    server, _ = site
    found, told, _ = ask(server, "/static/icon.svg")
    assert found == 200
    for alike in (
        "\uff49con.svg",
        "icon.\u017fvg",
        "icon\uff0esvg",
        "ic\u00f3n.svg",
        "ico%6E.svg%20",
    ):
        assert ask(server, f"/static/{quote(alike, safe='%')}")[0] == 404
    for target in ("/health", "/api/openapi.json", "/register/none", "/register/\uff4eone", "/no"):
        _, told, _ = ask(server, quote(target))
        assert told["cache-control"] == "no-store", target


def test_a_made_up_address_is_no_other_guesser(tmp_path: Path) -> None:
    """Without trusted proxies `X-Forwarded-For` gives nobody a fresh number of guesses."""
    server = ServerProcess(tmp_path / "state")
    with serving(server):
        statuses = [
            ask(
                server,
                "/api/v2/tailnet/-/devices",
                **{
                    "Authorization": f"Bearer mskey-api-{number}-wrong",
                    "X-Forwarded-For": f"198.51.100.{number}, 203.0.113.{number}",
                    "Forwarded": f"for=198.51.100.{number}",
                    "X-Real-IP": f"198.51.100.{number}",
                },
            )[0]
            for number in range(API_TOKEN.burst + 5)
        ]
        assert statuses == [401] * API_TOKEN.burst + [429] * 5
