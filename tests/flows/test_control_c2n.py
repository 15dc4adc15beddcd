"""Requests from control to a node, and what else arrives inside Noise."""

from __future__ import annotations

import asyncio
import base64
import json
from urllib.parse import urlsplit

import pytest

from mergescale.control.c2n import NoAnswer
from mergescale.control.limits import Limits
from mergescale.fanout.hub import Client
from support.aio import aio, until
from support.control_world import Control, Device, MapStream, controlled
from support.worlds import named

pytestmark = pytest.mark.enable_socket

ECHO = b"GET /echo HTTP/1.1\r\nHost: unused\r\nContent-Length: 5\r\n\r\nhello"
#: As a Go client answers: to be read until its end, there is no length.
REPLY = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello"


async def stream_of(control: Control, device: Device, stream: MapStream) -> Client:
    """Read the first map; return the server's end of the stream."""
    await stream.next()
    client = control.tailnet().hub.client(named(control.snapshot, device.name).id)
    assert client is not None
    return client


async def pinged(stream: MapStream) -> str:
    """Return the path that the next PingRequest asks for."""
    while "PingRequest" not in (step := await stream.next()):
        pass
    ping = step["PingRequest"]
    assert (ping["URLIsNoise"], ping["Types"]) == (True, "c2n")
    assert base64.b64decode(ping["Payload"]) == ECHO
    assert "Node" not in step
    return urlsplit(str(ping["URL"])).path


@aio
async def test_a_node_answers_on_a_second_connection() -> None:
    """The whole response comes back as it was sent; nobody else may give it, nor twice."""
    async with (
        controlled() as control,
        control.device("laptop") as laptop,
        control.device("laptop") as second,
        control.device("thief") as thief,
    ):
        await laptop.join(await control.auth_key())
        async with laptop.polling() as stream:
            client = await stream_of(control, laptop, stream)
            asking = asyncio.create_task(control.c2n.ask(client, laptop.machine, ECHO))
            path = await pinged(stream)
            assert (await thief.noise.post(path, b"HTTP/1.1 200 OK\r\n\r\nlies")).status == 404
            assert (await second.noise.post(path + "0", REPLY)).status == 404
            answer = await second.noise.post(path, REPLY)
            assert (answer.status, answer.body) == (204, b"")
            assert await asking == REPLY
            assert (await second.noise.post(path, REPLY)).status == 404
            assert not stream.call.ended


@aio
async def test_every_request_has_an_address_of_its_own() -> None:
    """Clients skip an address they have seen; answers may come in any order."""
    async with controlled() as control, control.device("laptop") as laptop:
        await laptop.join(await control.auth_key())
        async with laptop.polling(zstd=False) as stream:
            client = await stream_of(control, laptop, stream)
            asking = [
                asyncio.create_task(control.c2n.ask(client, laptop.machine, ECHO)) for _ in range(3)
            ]
            paths = [await pinged(stream) for _ in range(3)]
            assert len(set(paths)) == 3
            for number, path in reversed(list(enumerate(paths))):
                await laptop.noise.post(path, b"%d" % number)
            assert await asyncio.gather(*asking) == [b"0", b"1", b"2"]


@aio
async def test_a_node_that_does_not_answer_is_given_up() -> None:
    """After the time that was given; an answer that comes later is nobody's."""
    async with controlled() as control, control.device("laptop") as laptop:
        await laptop.join(await control.auth_key())
        async with laptop.polling() as stream:
            client = await stream_of(control, laptop, stream)
            with pytest.raises(NoAnswer):
                await control.c2n.ask(client, laptop.machine, ECHO, timeout_s=0.01)
            assert (await laptop.noise.post(await pinged(stream), REPLY)).status == 404
            assert control.c2n._calls == {}


@aio
async def test_an_answer_is_bounded() -> None:
    """A node cannot make the server hold more than a request body's limit."""
    limits = Limits(request_body_bytes=1000)
    async with controlled(limits=limits) as control, control.device("laptop") as laptop:
        answer = await laptop.noise.post("/machine/c2n/abc", b"x" * 1001)
        assert answer.status == 413
        await laptop.join(await control.auth_key())


@aio
async def test_what_is_not_served_is_a_404_and_no_harm() -> None:
    """No client takes it for fatal: tailnet lock, certificates, posture, logs, and nonsense."""
    async with controlled() as control, control.device("laptop") as laptop:
        await laptop.join(await control.auth_key())
        body = json.dumps({"Version": 130, "NodeKey": str(laptop.node_key())}).encode()
        asked = [
            ("POST", "/machine/set-dns"),
            ("POST", "/machine/audit-log"),
            ("POST", "/machine/update-health"),
            ("POST", "/machine/id-token"),
            ("POST", "/machine/feature/query"),
            ("GET", "/machine/tka/bootstrap"),
            ("GET", "/machine/tka/sync/offer"),
            ("GET", "/machine/whoami"),
            ("GET", "/machine/../key?v=130"),
            ("POST", "/register/abc"),
        ]
        async with laptop.polling() as stream:
            await stream.next()
            for method, path in asked:
                answer = await laptop.noise.request(method, path, body)
                assert (path, answer.status) == (path, 404)
            for path in ("/machine/map", "/machine/register"):
                answer = await laptop.noise.request("GET", path, body)
                assert (answer.status, bool(answer.body)) == (405, True)
            assert not stream.call.ended


@aio
async def test_paths_lose_their_origin_and_authorities_mean_nothing() -> None:
    """Clients send their control host, a bare host or ``unused``, and whole URLs as targets."""
    async with controlled() as control, control.device("laptop") as laptop:
        await laptop.join(await control.auth_key())
        body = json.dumps(laptop.map_request(OmitPeers=True)).encode()
        for path in (
            "/machine/map",
            "https://unused/machine/map",
            "http://a.example:1/machine/map",
        ):
            for authority in ("unused", "control.example.com:443", "elsewhere"):
                call = await laptop.noise.open("POST", path, body, authority=authority)
                assert (await call.answer()).status == 200


@aio
async def test_one_waiting_request_stops_no_other() -> None:
    """A follow-up, a map stream and updates share a connection, a hundred requests at a time."""
    async with controlled() as control, control.device("laptop") as laptop:
        await laptop.join(await control.auth_key())
        waiting = [(await laptop.register(number=n))["AuthURL"] for n in (1, 2)]
        calls = [await laptop.following(url, number=n) for n, url in enumerate(waiting, 1)]
        async with laptop.polling() as stream:
            await stream.next()
            answers = await asyncio.gather(*(laptop.update() for _ in range(90)))
            assert {answer.status for answer in answers} == {200}
            await until(lambda: len(control.bell._waiting) == 2)
            assert [call.status for call in calls] == [0, 0]
