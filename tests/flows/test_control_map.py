"""``/machine/map`` over real Noise and HTTP/2: streams, lite updates, one-shot maps."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from mergescale.control.limits import Limits
from mergescale.domain.node import Node
from mergescale.fanout.presence import GRACE_S
from mergescale.kernel.keys import DiscoKey
from mergescale.state import nodes
from mergescale.state.ports import StoreUnavailable
from mergescale.wire.mapframe import KEEPALIVE_JSON, KEEPALIVE_PLAIN, KEEPALIVE_ZSTD
from support.aio import aio, until
from support.clock import START
from support.control_world import Control, Device, Json, MapStream, controlled, one_map, rfc3339
from support.worlds import named

pytestmark = pytest.mark.enable_socket

ZERO_DISCO = str(DiscoKey.zero())


def node(control: Control, name: str) -> Node:
    return named(control.snapshot, name)


async def join(control: Control, *devices: Device) -> None:
    for device in devices:
        await device.join(await control.auth_key())


@aio
async def test_a_stream_begins_with_headers_and_the_whole_map() -> None:
    """The first message has all a client needs to start; the next ones are differences."""
    async with (
        controlled() as control,
        control.device("laptop") as laptop,
        control.device("phone") as phone,
    ):
        await join(control, laptop)
        async with laptop.polling() as stream:
            assert await stream.call.started() == 200
            assert "content-encoding" not in stream.call.headers
            first = await stream.next()
            assert first["Node"]["Key"] == str(laptop.node_key())
            assert first["Node"]["MachineAuthorized"] is True
            assert first["DERPMap"]["Regions"]["900"]["RegionID"] == 900
            assert first["ControlTime"] == rfc3339(START)
            assert first["CollectServices"] is False
            assert first["Domain"]
            assert {"UserProfiles", "DNSConfig", "PacketFilters"} <= first.keys()
            assert first.get("Peers") in (None, [])
            await join(control, phone)
            while "PeersChanged" not in (step := await stream.next()):
                pass
            assert [peer["Name"] for peer in step["PeersChanged"]] == [
                f"phone.{control.snapshot.magic_dns_suffix}."
            ]
            assert "Node" not in step


@aio
async def test_headers_come_before_the_first_message() -> None:
    """The Rust client holds its connection until it has them, so nothing may delay them."""
    async with controlled() as control, control.device("laptop") as laptop:
        await join(control, laptop)
        async with control.device("laptop", window_bytes=0) as closed, closed.polling() as stream:
            assert await stream.call.started() == 200


@aio
async def test_a_lite_update_reaches_peers_and_leaves_the_stream_alone() -> None:
    """Disco key, endpoints and home region, in one patch; the answer is an empty 200."""
    async with (
        controlled() as control,
        control.device("laptop") as laptop,
        control.device("phone") as phone,
    ):
        await join(control, laptop, phone)
        async with laptop.polling() as own, phone.polling() as stream:
            await own.next()
            await stream.next()
            answer = await laptop.update(
                Endpoints=["192.0.2.1:41641", "[fe80::1]:41641"],
                Hostinfo={"Hostname": "laptop", "OS": "linux", "NetInfo": {"PreferredDERP": 900}},
            )
            assert (answer.status, answer.body) == (200, b"")
            assert await patched(stream, "DERPRegion") == {
                "NodeID": node(control, "laptop").id,
                "DERPRegion": 900,
                "Endpoints": ["192.0.2.1:41641"],
                "DiscoKey": str(laptop.disco_key()),
            }
            assert not own.call.ended
            await control.apply(nodes.rename(node(control, "phone").id, "mobile"))
            while "PeersChanged" not in (step := await own.next()):
                pass
            assert step["PeersChanged"][0]["Name"].startswith("mobile.")


async def patched(stream: MapStream, member: str) -> Json:
    """Return the next patch of a peer that has this member."""
    while True:
        for patch in (await stream.next()).get("PeersChangedPatch", []):
            if member in patch:
                found: Json = patch
                return found


@aio
async def test_a_rust_update_is_read_like_a_go_one() -> None:
    """Its spelling differs; lost, its home relay would never be known."""
    async with controlled() as control, control.device("laptop") as laptop:
        await join(control, laptop)
        request = laptop.map_request(
            OmitPeers=True,
            HostInfo={"Hostname": "laptop", "Os": "linux", "NetInfo": {"PreferredDerp": 900}},
        )
        del request["Hostinfo"]
        assert (await laptop.post("/machine/map", request)).status == 200
        assert node(control, "laptop").home_derp == 900


@aio
async def test_a_streaming_request_changes_nothing() -> None:
    """What it carries may be older than a lite update that was faster."""
    async with controlled() as control, control.device("laptop") as laptop:
        await join(control, laptop)
        await laptop.update(Endpoints=["192.0.2.1:41641"])
        before = node(control, "laptop")
        stale: Json = {
            "Hostinfo": {"Hostname": "stale"},
            "Endpoints": ["192.0.2.9:1"],
            "DiscoKey": ZERO_DISCO,
        }
        async with laptop.polling(**stale) as stream:
            first = await stream.next()
            assert first["Node"]["Hostinfo"]["Hostname"] == "laptop"
        assert node(control, "laptop") == before


@aio
async def test_a_one_shot_map_is_read_or_applied() -> None:
    """ReadOnly stores nothing; without it the old full update stores and answers."""
    async with controlled() as control, control.device("laptop") as laptop:
        await join(control, laptop)
        before = node(control, "laptop")
        news: Json = {"DiscoKey": str(laptop.disco_key()), "Endpoints": ["192.0.2.1:41641"]}
        request = laptop.map_request(ReadOnly=True, **news)
        read = one_map(await laptop.post("/machine/map", request))
        assert read["Node"]["ID"] == before.id
        assert node(control, "laptop") == before
        request = laptop.map_request(Compress="zstd", **news)
        full = one_map(await laptop.post("/machine/map", request), zstd=True)
        assert full["Node"]["ID"] == before.id
        assert node(control, "laptop").disco_key == laptop.disco_key()
        assert node(control, "laptop").endpoints == ("192.0.2.1:41641",)


@pytest.mark.parametrize(("zstd", "keepalive"), [(True, KEEPALIVE_ZSTD), (False, KEEPALIVE_PLAIN)])
def test_silence_is_broken_by_the_bytes_clients_know(zstd: bool, keepalive: bytes) -> None:
    """A keepalive after 50 to 59 s, in the framing that was asked for, and again."""

    @aio
    async def conversation() -> None:
        async with controlled() as control, control.device("laptop") as laptop:
            await join(control, laptop)
            async with laptop.polling(zstd=zstd) as stream:
                await stream.next()
                await until(lambda: control.snapshot.online(node(control, "laptop").id))
                await settled(control, laptop)
                for _ in range(2):
                    await until(lambda: control.timers.pending)
                    [due_s] = control.timers.pending
                    silence_s = due_s - control.timers.now_s
                    assert 50 <= silence_s <= 59
                    control.timers.advance(silence_s)
                    assert await stream.call.chunk() == keepalive
                assert keepalive[:4] == (len(keepalive) - 4).to_bytes(4, "little")
                assert stream.decoder.feed(keepalive) == [KEEPALIVE_JSON]

    conversation()


async def settled(control: Control, device: Device) -> None:
    """Wait until the device's stream has nothing more to say."""
    client = control.tailnet().hub.client(node(control, device.name).id)
    assert client is not None
    await until(lambda: client.revision == control.snapshot.revision)


@aio
async def test_raw_frames_for_who_did_not_ask_for_zstd() -> None:
    """The first bytes of the body are a length and JSON; with zstd they are zstd's magic."""
    async with controlled() as control, control.device("laptop") as laptop:
        await join(control, laptop)
        cases: list[tuple[Json, bytes]] = [
            ({}, b'{"'),
            ({"Compress": ""}, b'{"'),
            ({"Compress": "gzip"}, b'{"'),
            ({"Compress": "zstd"}, b"\x28\xb5\x2f\xfd"),
        ]
        for members, start in cases:
            request = laptop.map_request(ReadOnly=True, **members)
            body = (await laptop.post("/machine/map", request)).body
            assert int.from_bytes(body[:4], "little") == len(body) - 4
            assert body[4:].startswith(start)


@aio
async def test_the_newest_stream_of_a_node_is_the_one() -> None:
    """The first ends in order, from another connection too, and the node stays online."""
    async with (
        controlled() as control,
        control.device("laptop") as laptop,
        control.device("laptop") as again,
    ):
        await join(control, laptop)
        async with laptop.polling() as first:
            await first.next()
            online = node(control, "laptop").id
            await until(lambda: control.snapshot.online(online))
            await settled(control, laptop)
            async with again.polling() as second:
                assert "Node" in await second.next()
                await first.end()
                control.timers.advance(GRACE_S)
                await control.apply(nodes.rename(online, "newer"))
                while "Node" not in (step := await second.next()):
                    pass
                assert step["Node"]["Name"].startswith("newer.")
                assert control.snapshot.online(online)


@aio
async def test_a_node_is_online_while_it_has_a_stream() -> None:
    """And for a grace period after it; peers are told both."""
    async with (
        controlled() as control,
        control.device("laptop") as laptop,
        control.device("phone") as phone,
    ):
        await join(control, laptop, phone)
        async with phone.polling() as stream:
            [peer] = (await stream.next())["Peers"]
            assert peer["Online"] is False
            async with laptop.polling() as own:
                await own.next()
                while not (patches := (await stream.next()).get("PeersChangedPatch")):
                    pass
                assert patches == [{"NodeID": peer["ID"], "Online": True}]
            hub = control.tailnet().hub
            await until(lambda: not hub.connected(peer["ID"]))
            control.timers.advance(GRACE_S)
            while not (patches := (await stream.next()).get("PeersChangedPatch")):
                pass
            assert patches == [{"NodeID": peer["ID"], "Online": False, "LastSeen": rfc3339(START)}]


@aio
async def test_deleting_a_node_ends_its_stream() -> None:
    """It is told that its key has expired, then the stream ends, and the next one is a 404."""
    async with controlled() as control, control.device("laptop") as laptop:
        await join(control, laptop)
        async with laptop.polling() as stream:
            await stream.next()
            await control.apply(nodes.delete(node(control, "laptop").id))
            while "Node" not in (step := await stream.next()):
                pass
            assert step["Node"]["KeyExpiry"] < rfc3339(START)
            await stream.end()
        for members in ({"Stream": True}, {"OmitPeers": True}, {"ReadOnly": True}, {}):
            answer = await laptop.post("/machine/map", laptop.map_request(**members))
            assert (answer.status, answer.body) == (404, b"node not found")


@aio
async def test_an_expired_node_hears_so_on_its_stream() -> None:
    """A KeyExpiry in the past on the open stream, and a later one that undoes it."""
    async with controlled() as control, control.device("laptop") as laptop:
        await join(control, laptop)
        async with laptop.polling() as stream:
            await stream.next()
            expired = node(control, "laptop").id
            await control.apply(nodes.expire(expired))
            while "Node" not in (step := await stream.next()):
                pass
            assert step["Node"]["KeyExpiry"] == rfc3339(START)
            await control.apply(nodes.disable_key_expiry(expired))
            while "Node" not in (step := await stream.next()):
                pass
            assert step["Node"].get("KeyExpiry", "0001-01-01T00:00:00Z").startswith("0001-")


@aio
async def test_an_old_client_is_refused_with_a_text() -> None:
    """Never with an empty 200, which clients read as an unexpected end for ever."""
    async with controlled() as control, control.device("laptop") as laptop:
        await join(control, laptop)
        for members in ({"Stream": True}, {"OmitPeers": True}):
            request = laptop.map_request(Version=105, **members)
            answer = await laptop.post("/machine/map", request)
            assert answer.status == 400
            assert b"update to Tailscale 1.74" in answer.body


@aio
async def test_an_update_that_cannot_be_stored_is_a_503() -> None:
    """The client repeats it; the stream of the node stays open."""
    async with controlled() as control, control.device("laptop") as laptop:
        await join(control, laptop)
        async with laptop.polling() as stream:
            await stream.next()
            await until(lambda: control.snapshot.online(node(control, "laptop").id))
            control.journal.fail_next = StoreUnavailable("the database is away")
            answer = await laptop.update(Endpoints=["192.0.2.1:41641"])
            assert (answer.status, answer.body) == (503, b"the database is away")
            assert node(control, "laptop").endpoints == ()
            assert (await laptop.update(Endpoints=["192.0.2.1:41641"])).status == 200
            assert node(control, "laptop").endpoints == ("192.0.2.1:41641",)
            assert not stream.call.ended


@aio
async def test_reading_goes_on_without_a_database() -> None:
    """A map comes from memory."""
    async with controlled() as control, control.device("laptop") as laptop:
        await join(control, laptop)
        control.journal.fail_next = StoreUnavailable("the database is away")
        read = await laptop.post("/machine/map", laptop.map_request(ReadOnly=True))
        assert one_map(read)["Node"]["Key"] == str(laptop.node_key())
        assert control.journal.fail_next is not None


@aio
async def test_a_client_that_stops_reading_is_dropped() -> None:
    """A suspended laptop costs a bounded buffer; its node is free for the next stream."""
    limits = Limits(stall_s=0.05, orphan_s=0.05)
    async with controlled(limits=limits) as control, control.device("laptop") as laptop:
        await join(control, laptop)
        async with laptop.polling(zstd=False) as stream:
            await stream.next()
            stuck = node(control, "laptop").id
            hub = control.tailnet().hub
            await laptop.noise.stop_reading()
            big = b'{"Domain":"%s"}' % (b"x" * (8 << 20))
            while hub.connected(stuck):
                client = hub.client(stuck)
                if client is not None:
                    client.interject(big)
                await asyncio.sleep(0.01)
        async with control.device("laptop") as back, back.polling() as stream:
            assert "Node" in await stream.next()


@aio
async def test_a_lost_connection_ends_its_stream() -> None:
    """The hub forgets the client in the same moment, not when something is next sent to it."""
    async with controlled() as control:
        async with control.device("laptop") as laptop:
            await join(control, laptop)
            body = json.dumps(laptop.map_request(Stream=True)).encode()
            call = await laptop.noise.open("POST", "/machine/map", body)
            await call.chunk()
            assert len(control.tailnet().hub) == 1
        await until(lambda: len(control.tailnet().hub) == 0)
        assert control.tailnet().hub._streams == {}


@aio
async def test_a_key_that_was_rotated_leaves_the_stream_open() -> None:
    """The client keeps its stream until the login with the new key is done."""
    async with controlled() as control, control.device("laptop") as laptop:
        await laptop.join(await control.auth_key())
        async with laptop.polling() as stream:
            await stream.next()
            await laptop.join(await control.auth_key(), number=1, old=0)
            while "Node" not in (step := await stream.next()):
                pass
            assert step["Node"]["Key"] == str(laptop.node_key(1))
            assert not stream.call.ended


@aio
async def test_a_map_tells_the_time_of_now() -> None:
    """Clients correct their clocks by it, so each first message has its own."""
    async with controlled() as control, control.device("laptop") as laptop:
        await join(control, laptop)
        for moment in (START, START + timedelta(hours=1)):
            async with laptop.polling() as stream:
                assert (await stream.next())["ControlTime"] == rfc3339(moment)
            control.clock.advance(timedelta(hours=1))
