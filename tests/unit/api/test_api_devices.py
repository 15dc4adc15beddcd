from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network
from time import process_time
from typing import Any

import msgspec
import pytest

from mergescale.api import device
from mergescale.domain.declaration import Declaration
from mergescale.domain.record import Put
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.tailnet import RelayRegion, Relays
from support.access import table
from support.aio import aio
from support.clock import START
from support.rest import served
from support.worlds import named, step, world

ALL = {"fields": "all"}
HOSTINFO: dict[str, Any] = {
    "Hostname": "Laptop",
    "OS": "linux",
    "IPNVersion": "1.98.1-tabc",
    "ShieldsUp": True,
    "Distro": "debian",
    "DistroVersion": "12",
    "DistroCodeName": "bookworm",
    "sshHostKeys": ["ssh-ed25519 AAAA"],
    "NetInfo": {
        "PreferredDERP": 900,
        "MappingVariesByDestIP": False,
        "WorkingIPv6": True,
        "WorkingUDP": True,
        "UPnP": False,
        "DERPLatency": {"900-v4": 0.0125, "900-v6": 0.011, "1-v4": 0.25, "odd": 1},
    },
}


def detailed() -> Snapshot:
    """Return alice's laptop with all that a device can have, offline since the start."""
    declaration = replace(
        table(tags={"tag:web": []}), relays=Relays((RelayRegion(900, "own", "Own relay", ()),))
    )
    before = world("alice@example.com: laptop", declaration=declaration, online=False)
    laptop = replace(
        named(before, "laptop"),
        hostinfo=msgspec.json.encode(HOSTINFO),
        key_expiry=START + timedelta(days=180),
        last_seen=START + timedelta(minutes=1),
        advertised=(ip_network("10.0.0.0/8"), ip_network("fd00::/64")),
        approved=frozenset({ip_network("192.168.0.0/16"), ip_network("10.0.0.0/8")}),
    )
    return step(before, [Put(laptop)])


def tagged(names: str = "alice@example.com: laptop; tag:web: web1") -> Snapshot:
    return world(names, declaration=table(tags={"tag:web": [], "tag:db": []}))


BRIEF: dict[str, Any] = {
    "addresses": ["100.64.0.1", "fd7a:115c:a1e0::1"],
    "id": "1",
    "nodeId": "n1CNTRL",
    "name": "laptop.default.tailnet.internal",
    "hostname": "Laptop",
    "user": "alice@example.com",
    "tags": [],
    "os": "linux",
    "clientVersion": "1.98.1-tabc",
    "created": "2026-01-01T00:00:01Z",
    "expires": "2026-06-30T00:00:00Z",
    "lastSeen": "2026-01-01T00:01:00Z",
    "keyExpiryDisabled": False,
    "authorized": True,
    "connectedToControl": False,
    "isEphemeral": False,
    "isExternal": False,
    "updateAvailable": False,
    "blocksIncomingConnections": True,
    "machineKey": str(named(world("alice@example.com: laptop"), "laptop").machine_key),
    "nodeKey": str(named(world("alice@example.com: laptop"), "laptop").node_key),
    "tailnetLockError": "",
    "tailnetLockKey": "",
}
FULL: dict[str, Any] = {
    **BRIEF,
    "advertisedRoutes": ["10.0.0.0/8", "fd00::/64"],
    "enabledRoutes": ["10.0.0.0/8", "192.168.0.0/16"],
    "clientConnectivity": {
        "endpoints": ["192.0.2.2:41641"],
        "derp": "Own relay",
        "mappingVariesByDestIP": False,
        "latency": {
            "region 1": {"latencyMs": 250.0},
            "Own relay": {"latencyMs": 11.0, "preferred": True},
        },
        "clientSupports": {
            "hairPinning": None,
            "ipv6": True,
            "pcp": None,
            "pmp": None,
            "udp": True,
            "upnp": False,
        },
    },
    "sshEnabled": True,
    "distro": {"name": "debian", "version": "12", "codeName": "bookworm"},
}


@aio
async def test_a_device_has_the_members_of_tailscales_api() -> None:
    """A listing and a single device show the same; ``fields=all`` adds what costs more."""
    async with served(detailed()) as site:
        listing = await site.operator.get("/api/v2/tailnet/-/devices")
        assert (listing.status_code, listing.json()) == (200, {"devices": [BRIEF]})
        full = await site.operator.get("/api/v2/tailnet/-/devices", params=ALL)
        assert full.json() == {"devices": [FULL]}
        for name in ("1", "n1CNTRL"):
            assert (await site.operator.get(f"/api/v2/device/{name}")).json() == BRIEF
            assert (await site.operator.get(f"/api/v2/device/{name}", params=ALL)).json() == FULL


@aio
async def test_a_connected_device_has_no_last_seen_and_a_tagged_one_no_person() -> None:
    """What does not apply is absent, as Go's client has it; a key that never expires says year 1."""
    async with served(tagged()) as site:
        shown = (await site.operator.get("/api/v2/device/2")).json()
        assert "lastSeen" not in shown
        assert shown["connectedToControl"] is True
        assert (shown["user"], shown["tags"]) == ("tagged-devices", ["tag:web"])
        assert (shown["expires"], shown["keyExpiryDisabled"]) == ("0001-01-01T00:00:00Z", True)


@aio
async def test_the_servers_own_region_has_its_name() -> None:
    """Regions that the server adds are named by the server, others by their number."""
    async with served(world("alice@example.com: laptop"), regions={900: "Here"}) as site:
        shown = (await site.operator.get("/api/v2/device/1", params=ALL)).json()
        assert shown["clientConnectivity"]["derp"] == "Here"


@pytest.mark.parametrize("hostinfo", [b"", b"nonsense", b'{"Hostname":1}'])
def test_a_broken_row_is_still_a_device(hostinfo: bytes) -> None:
    """A hostinfo that cannot be read costs its own members, not the listing."""
    snapshot = world("alice@example.com: laptop")
    node = replace(named(snapshot, "laptop"), hostinfo=hostinfo)
    shown = device.full(snapshot, node, {})
    assert (shown.hostname, shown.os, shown.name) == ("", "", "laptop.default.tailnet.internal")


@aio
async def test_members_filter_a_listing() -> None:
    """A parameter named as a member narrows the listing; several values of one are alternatives."""
    names = "alice@example.com: laptop, phone; tag:web: web1; tag:db: db1"
    async with served(tagged(names)) as site:
        for query, expected in (
            ("?tags=tag:web&tags=tag:db", ["web1", "db1"]),
            ("?tags=tag:web", ["web1"]),
            ("?user=alice@example.com&hostname=phone", ["phone"]),
            ("?isEphemeral=true", []),
            ("?connectedToControl=true&os=linux", ["laptop", "phone", "web1", "db1"]),
            ("?addresses=100.64.0.2", ["phone"]),
        ):
            answer = await site.operator.get(f"/api/v2/tailnet/-/devices{query}")
            assert [one["hostname"] for one in answer.json()["devices"]] == expected, query
        wrong = await site.operator.get("/api/v2/tailnet/-/devices?colour=red")
        assert wrong.status_code == 400
        assert wrong.json() == {
            "message": 'devices have no "colour"; filter by a member of a device'
        }


@aio
async def test_renaming_takes_a_label_or_the_whole_name() -> None:
    """The name stays until an empty one gives it back to the host name."""
    async with served(tagged()) as site:
        for said, label in (
            ("Work", "work"),
            ("home.default.tailnet.internal", "home"),
            ("away.default.tailnet.internal.", "away"),
            ("", "laptop"),
        ):
            answer = await site.operator.post("/api/v2/device/1/name", json={"name": said})
            assert (answer.status_code, answer.json()) == (200, {})
            assert set(site.snapshot.names) == {label, "web1"}
        taken = await site.operator.post("/api/v2/device/1/name", json={"name": "web1"})
        assert (taken.status_code, taken.json()) == (
            409,
            {"message": 'another node is called "web1"'},
        )
        bad = await site.operator.post("/api/v2/device/1/name", json={"name": "../etc"})
        assert bad.status_code == 400


@aio
async def test_approval_tags_keys_and_addresses_are_set_one_by_one() -> None:
    """Each action does what its name says and answers with an empty object."""
    async with served(tagged()) as site:

        async def act(what: str, body: dict[str, Any] | None = None) -> None:
            answer = await site.operator.post(f"/api/v2/device/n1CNTRL/{what}", json=body)
            assert (answer.status_code, answer.json()) == (200, {}), what

        await act("authorized", {"authorized": False})
        assert named(site.snapshot, "laptop").authorized is False
        await act("authorized", {"authorized": True})
        assert named(site.snapshot, "laptop").authorized is True
        await act("key", {"keyExpiryDisabled": False})
        assert named(site.snapshot, "laptop").key_expiry == START + timedelta(days=180)
        await act("expire")
        assert named(site.snapshot, "laptop").key_expiry == START
        await act("key", {"keyExpiryDisabled": True})
        assert named(site.snapshot, "laptop").key_expiry is None
        await act("ip", {"ipv4": "100.64.7.7"})
        assert str(named(site.snapshot, "laptop").ipv4) == "100.64.7.7"
        await act("tags", {"tags": None})
        assert named(site.snapshot, "laptop").tags == ()
        await act("tags", {"tags": ["tag:web", "tag:db"]})
        assert named(site.snapshot, "laptop").tags == ("tag:db", "tag:web")


@aio
async def test_routes_are_approved_as_a_whole() -> None:
    """A list replaces the one before; one default route stands for both families; null is none."""
    async with served(detailed()) as site:
        path = "/api/v2/device/1/routes"
        before = {
            "advertisedRoutes": ["10.0.0.0/8", "fd00::/64"],
            "enabledRoutes": ["10.0.0.0/8", "192.168.0.0/16"],
        }
        assert (await site.operator.get(path)).json() == before
        answer = await site.operator.post(path, json={"routes": ["0.0.0.0/0", "10.0.0.0/8"]})
        assert answer.json()["enabledRoutes"] == ["0.0.0.0/0", "10.0.0.0/8", "::/0"]
        answer = await site.operator.post(path, json={"routes": None})
        assert answer.json()["enabledRoutes"] == []
        wrong = await site.operator.post(path, json={"routes": ["10.0.0.1/8"]})
        assert (wrong.status_code, wrong.json()) == (
            400,
            {
                "message": '"10.0.0.1/8" is not a route; a route is a prefix without host bits, '
                "as in 10.0.0.0/8"
            },
        )
        assert named(site.snapshot, "laptop").approved == frozenset()


@aio
async def test_a_deleted_device_is_gone() -> None:
    """Deleting answers 200, and the device is not known after it."""
    async with served(tagged()) as site:
        answer = await site.operator.delete("/api/v2/device/n1CNTRL")
        assert (answer.status_code, answer.json()) == (200, {})
        assert (await site.operator.get("/api/v2/device/n1CNTRL")).status_code == 404
        assert set(site.snapshot.names) == {"web1"}


@aio
async def test_an_id_that_names_no_device_is_not_found() -> None:
    """Whatever is in the path, it is looked up as it stands."""
    ids = ("2", "n2CNTRL", "²", "00000000000000000001", "-1", "..", "%2e%2e", "a%2Fb", "1%00")
    async with served(world("alice@example.com: laptop")) as site:
        for device_id in ids:
            answer = await site.operator.get(f"/api/v2/device/{device_id}")
            assert (answer.status_code, set(answer.json())) == (404, {"message"}), device_id


BAD_BODIES = {
    b"": "a JSON body is needed",
    b"{": "the body cannot be read: input data was truncated",
    b"[]": "the body: expected `object`, got `array`",
    b"{}": "the body: object missing required field `name`",
    b'{"name":1}': '"name": expected `str`, got `int`',
    b'{"name":"\xff"}': "the body cannot be read: it is not UTF-8",
    b"[" * 30_000: "the body cannot be read: it is nested too deep",
}


@aio
async def test_a_body_that_cannot_be_read_says_what_is_wrong() -> None:
    """The mistake is named and nothing changed."""
    async with served(world("alice@example.com: laptop")) as site:
        for content, message in BAD_BODIES.items():
            answer = await site.operator.post("/api/v2/device/1/name", content=content)
            assert (answer.status_code, answer.json()) == (400, {"message": message})
        assert set(site.snapshot.names) == {"laptop"}


def test_rendering_many_devices_is_cheap() -> None:
    """LIMIT: a thousand devices in well under 100 ms of a core on any machine that runs this; 7 ms here."""
    snapshot = world("alice@example.com: " + ", ".join(f"n{i}" for i in range(1000)))
    started = process_time()
    listing = msgspec.json.encode([device.brief(snapshot, one) for one in snapshot.nodes.values()])
    assert len(listing) > 500_000
    assert process_time() - started < 0.1


def test_declarations_may_name_a_region_that_the_server_has_too() -> None:
    """The tailnet's own word for a region wins."""
    regions = Relays((RelayRegion(900, "x", "Declared", ()),))
    snapshot = world(
        "alice@example.com: laptop", declaration=Declaration(table().policy, relays=regions)
    )
    assert device.region_names(snapshot, {900: "Here", 901: "There"}) == {
        900: "Declared",
        901: "There",
    }
