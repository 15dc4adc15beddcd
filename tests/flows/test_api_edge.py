"""The API behind the real edge: who is trusted depends on the socket, and on nothing else."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from mergescale.control.public import public_handlers
from mergescale.kernel.keys import MachineKey
from mergescale.server.edge import Edge
from mergescale.server.http import Parts, application, raw
from mergescale.server.listeners import TcpListener, UnixListener
from support.aio import aio
from support.rest import bearer, client, served
from support.worlds import key_bytes, world

pytestmark = pytest.mark.enable_socket

DEVICES = "/api/v2/tailnet/-/devices"


@aio
async def test_only_the_unix_socket_needs_no_token(tmp_path: Path) -> None:
    """The same application on both: by TCP a token is needed, whatever the request claims."""
    path = tmp_path / "api.sock"
    async with served(world("alice@example.com: laptop")) as site:
        edge = Edge(site.app, [TcpListener("127.0.0.1", 0), UnixListener(path)], {})
        await edge.start()
        try:
            host, port = edge.addresses[0][:2]
            tcp = httpx.AsyncClient(base_url=f"http://{host}:{port}")
            unix = httpx.AsyncClient(
                base_url="http://localhost", transport=httpx.AsyncHTTPTransport(uds=str(path))
            )
            async with tcp, unix:
                assert (await unix.get(DEVICES)).status_code == 200
                claims = {"local": "1", "x-forwarded-for": "127.0.0.1", "host": "localhost"}
                assert (await tcp.get(DEVICES, headers=claims)).status_code == 401
                token = bearer(site.tokens["default"])
                listing = await tcp.get(DEVICES, headers=token)
                assert [one["hostname"] for one in listing.json()["devices"]] == ["laptop"]
                large = await tcp.post(
                    "/api/v2/device/1/name", headers=token, content=b"x" * 100_000
                )
                assert (large.status_code, large.json()) == (
                    413,
                    {"message": "the body is too large"},
                )
        finally:
            await edge.stop(1.0)


@aio
async def test_all_parts_share_one_application() -> None:
    """Control's own answers keep their form and get the same headers; a raw path stays raw."""

    async def teapot(scope: dict[str, object], receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 418, "headers": []})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": b"short"})  # type: ignore[operator]

    async with served(world("alice@example.com: laptop")) as site:
        key = MachineKey(key_bytes("server"))
        handlers = [*public_handlers(site.tailnets, key, set), raw("/ts2021", teapot)]
        app = application(Parts(api=[], web=[], control=handlers))
        caller = client(app)
        told = await caller.get("/key?v=130")
        assert told.json()["publicKey"] == str(key)
        untouched = await caller.get("/ts2021")
        assert (untouched.status_code, untouched.text) == (418, "short")
        oversized = await caller.post("/verify", content=b"x" * 5000)
        assert oversized.status_code == 413
        for answer in (told, untouched, oversized):
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert len(answer.headers["x-request-id"]) == 16
