"""What the relay answers over plain HTTP."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from support.aio import aio
from support.relay_server import relaying

pytestmark = pytest.mark.enable_socket


@dataclass(frozen=True)
class Answer:
    """One response."""

    status: int
    headers: dict[str, str]
    body: bytes


class Browser:
    """Sends requests on one HTTP/1.1 connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, method: str, target: str, *headers: str) -> Answer:
        lines = [f"{method} {target} HTTP/1.1", "Host: relay", "Content-Length: 0", *headers]
        self._writer.write("\r\n".join([*lines, "", ""]).encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        status, *fields = head.lower().strip().split("\r\n")
        told = dict(line.split(": ", 1) for line in fields)
        size = 0 if method == "HEAD" else int(told.get("content-length", 0))
        return Answer(int(status.split()[1]), told, await self._reader.readexactly(size))

    def close(self) -> None:
        self._writer.close()


@pytest.mark.parametrize("path", ["/derp/probe", "/derp/latency-check"])
@aio
async def test_probes_are_answered_on_a_connection_that_stays(path: str) -> None:
    """GET and HEAD are 200 for any origin, others 405, all of it on one connection."""
    async with relaying() as at:
        browser = Browser(*await asyncio.open_connection("127.0.0.1", at.port))
        for method, status, body in (
            ("GET", 200, b"ok\n"),
            ("HEAD", 200, b""),
            ("POST", 405, None),
            ("DELETE", 405, None),
            ("GET", 200, b"ok\n"),
        ):
            answer = await browser.ask(method, path)
            assert answer.status == status
            assert answer.headers.get("connection") is None
            if body is not None:
                assert answer.body == body
                assert answer.headers["access-control-allow-origin"] == "*"
        browser.close()


@aio
async def test_an_absolute_target_is_probed_too() -> None:
    """The Rust client measures with ``GET https://host/derp/latency-check``."""
    async with relaying() as at:
        browser = Browser(*await asyncio.open_connection("127.0.0.1", at.port))
        for _ in range(2):
            answer = await browser.ask("GET", "https://127.0.0.1:1/derp/latency-check")
            assert (answer.status, answer.body) == (200, b"ok\n")
        browser.close()


@pytest.mark.parametrize("headers", [(), ("Connection: Upgrade", "Upgrade: h2c")])
@pytest.mark.parametrize("method", ["GET", "POST"])
@aio
async def test_the_relay_without_an_upgrade_is_426(method: str, headers: tuple[str, ...]) -> None:
    """Without an upgrade that we know, the answer names the one that is needed."""
    async with relaying() as at:
        browser = Browser(*await asyncio.open_connection("127.0.0.1", at.port))
        answer = await browser.ask(method, "/derp", *headers)
        assert (answer.status, answer.body) == (426, b"DERP requires connection upgrade")
        assert answer.headers["upgrade"] == "derp"
        assert (await browser.ask("GET", "/derp/probe")).status == 200
        browser.close()
