"""Every message of a lively tailnet, as clients got it, against the pitfalls of spec 9.3.

Two clients listen over Noise, one in Go's framing and one in Rust's, while devices with impossible
names join, move, expire, rotate, route, are tagged, and go, and the policy changes under them. Each
test then asks one thing of each message. Numbers are the pitfalls'.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import re
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from ipaddress import ip_network
from typing import Any, NamedTuple

import pytest

from mergescale.domain.declaration import Declaration
from mergescale.fanout.presence import GRACE_S
from mergescale.state import nodes, policies, routes
from mergescale.wire.mapframe import LENGTH_BYTES
from support.aio import run, until
from support.clock import START
from support.control_world import (
    BOB,
    OPEN,
    Control,
    Device,
    Json,
    MapStream,
    controlled,
    rfc3339,
)
from support.fold import Client as GoClient
from support.policies import policy
from support.worlds import deployment, key_bytes

pytestmark = pytest.mark.enable_socket

#: What devices call themselves; none of it is a DNS label.
NAMES = ("", "x" * 300, "пример", 'q"uo\\te\n', "..", "-a_b c-.local", "listener", "\u202egnp")
NARROW = """{"tagOwners": {"tag:web": ["alice@example.com"]},
 "acls": [{"action": "accept", "src": ["alice@example.com"], "dst": ["tag:web:80,443"]},
          {"action": "accept", "src": ["10.1.0.0/16"], "dst": ["*:22"]},
          {"action": "accept", "src": ["bob@example.com"], "dst": ["*:*"]}]}"""
_END = "the-end"


class Heard(NamedTuple):
    """What one client got.

    Attributes:
        texts: each message as JSON text, in order.
        whole: what a fresh full map says in the end.
    """

    texts: list[str]
    whole: bytes

    @property
    def messages(self) -> list[Json]:
        return [json.loads(text) for text in self.texts]


@functools.cache
def heard() -> tuple[Heard, Heard]:
    """Tell the story once; return what the Go and the Rust listener heard."""
    told: list[Heard] = []

    async def main() -> None:
        async with (
            controlled() as control,
            listening(control, zstd=True) as go,
            listening(control, zstd=False) as rust,
        ):
            await story(control)
            for texts, device in (go, rust):
                await until(functools.partial(_ended, texts))
                read = await device.post("/machine/map", device.map_request(ReadOnly=True))
                told.append(Heard(texts, read.body[LENGTH_BYTES:]))

    run(main())
    return told[0], told[1]


def _ended(texts: list[str]) -> bool:
    return any(_END in text for text in texts)


@contextlib.asynccontextmanager
async def listening(control: Control, *, zstd: bool) -> AsyncIterator[tuple[list[str], Device]]:
    """Join as alice's device and note every message that comes."""
    texts: list[str] = []

    async def listen(stream: MapStream) -> None:
        while True:
            texts.append((await stream.text()).decode())

    async with control.device(f"listener {zstd}") as device:
        await device.join(await control.auth_key(), Hostinfo={"Hostname": "listener"})
        async with device.polling(zstd=zstd) as stream:
            task = asyncio.create_task(listen(stream))
            await until(lambda: texts)
            try:
                yield texts, device
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


async def story(control: Control) -> None:
    """Let everything happen that changes a map."""
    async with contextlib.AsyncExitStack() as stack:
        devices = [
            await stack.enter_async_context(control.device(f"device {number}"))
            for number in range(len(NAMES))
        ]
        for number, device in enumerate(devices):
            await join(control, device, number)
        streams = [await stack.enter_async_context(device.polling()) for device in devices[:3]]
        for stream in streams:
            await stream.next()
        await settle(control)
        for number, device in enumerate(devices[:5]):
            await update(device, number)
            await settle(control)
        ids = [control.snapshot.by_node_key[device.node_key()] for device in devices]
        nets = ["10.1.0.0/16", "fd00:1::/64", "0.0.0.0/0"]
        for router in ids[:2]:
            await control.apply(routes.approve(router, map(ip_network, nets)))
        await settle(control)
        await join(control, devices[4], 4, number=1, old=0)
        await settle(control)
        await control.apply(nodes.rename(ids[3], "renamed"))
        await control.apply(nodes.expire(ids[4]))
        await settle(control)
        control.clock.advance(timedelta(minutes=5))
        await control.apply(nodes.disable_key_expiry(ids[4]))
        await control.apply(nodes.set_tags(ids[5], ["tag:web"]))
        await control.apply(nodes.delete(ids[6]))
        await settle(control)
    await until(lambda: len(control.tailnet().hub) == 2)
    control.timers.advance(GRACE_S)
    await until(lambda: len(control.snapshot.presence) == 2)
    await settle(control)
    for text in (NARROW, OPEN, NARROW, OPEN):
        declaration = Declaration(policy(text))
        access = declaration.policy.resolve(control.snapshot)
        commit = deployment(declaration, commit=key_bytes(text).hex()[:40])
        await control.apply(policies.replace(commit, access, control.snapshot))
        await settle(control)
    await control.apply(nodes.rename(ids[3], _END))


async def join(control: Control, device: Device, which: int, **members: Any) -> None:
    user: Json = {"user": BOB} if which % 2 else {}
    await device.join(await control.auth_key(**user), Hostinfo=host(which), **members)


async def update(device: Device, number: int) -> None:
    """Send what a client finds out in its first seconds: first nothing, then addresses, a home."""
    zero, own = "discokey:" + "0" * 64, str(device.disco_key())
    endpoints = ["192.0.2.1:41641", "[2001:db8::1]:41641"]
    net: Json = {"PreferredDERP": 900}
    for disco, found, netinfo in ((zero, [], None), (own, endpoints, None), (own, endpoints, net)):
        said = host(number) | ({"NetInfo": netinfo} if netinfo else {})
        answer = await device.update(Hostinfo=said, Endpoints=found, DiscoKey=disco)
        assert answer.status == 200


def host(number: int) -> Json:
    """Return the Hostinfo of a device; the first two are routers."""
    advertised = ["10.1.0.0/16", "fd00:1::/64", "0.0.0.0/0", "::/0"] if number < 2 else []
    services = [{"Proto": "peerapi4", "Port": 4000, "Description": 'a "b" \\ c'}]
    return {
        "Hostname": NAMES[number],
        "OS": 'li"nux',
        "RoutableIPs": advertised,
        "Services": services,
    }


async def settle(control: Control) -> None:
    """Let every stream say what it has to say."""
    hub = control.tailnet().hub
    await until(lambda: all(_is_settled(control, node) for node in hub._clients))


def _is_settled(control: Control, node: Any) -> bool:
    client = control.tailnet().hub.client(node)
    return client is None or client.revision == control.snapshot.revision


def each_message() -> Iterator[Json]:
    for one in heard():
        yield from one.messages


def each_node() -> Iterator[Json]:
    """Yield every whole node that was told, of oneself and of peers."""
    for message in each_message():
        if "Node" in message:
            yield message["Node"]
        yield from message.get("Peers") or ()
        yield from message.get("PeersChanged", ())


def each_patch() -> Iterator[Json]:
    for message in each_message():
        yield from message.get("PeersChangedPatch", ())


def each_rule() -> Iterator[Json]:
    for message in each_message():
        yield from message.get("PacketFilter", ())
        for rules in (message.get("PacketFilters") or {}).values():
            yield from rules or ()


def test_the_story_has_everything_in_it() -> None:
    """The claims below would be empty if it had not."""
    members = {name for message in each_message() for name in message}
    assert members >= {
        "Node",
        "Peers",
        "PeersChanged",
        "PeersRemoved",
        "PeersChangedPatch",
        "PacketFilters",
        "UserProfiles",
        "DERPMap",
        "DNSConfig",
    }
    patched = {name for patch in each_patch() for name in patch}
    assert patched >= {"Online", "LastSeen", "DERPRegion", "Endpoints", "DiscoKey", "Key"}
    told = list(each_node())
    assert any(node.get("PrimaryRoutes") for node in told)
    assert any(node.get("Tags") for node in told)
    assert any("KeyExpiry" in node for node in told)
    assert all(len(one.texts) > 10 for one in heard())


def test_what_was_heard_is_what_is() -> None:
    """21, 32, 33: the fold of all deltas is the full map, disco keys and homes included."""
    for one in heard():
        listener, fresh = GoClient(), GoClient()
        for text in one.texts:
            listener.receive(text.encode())
        fresh.receive(one.whole)
        assert listener.view() == fresh.view()
        reached = [peer for peer in listener.peers.values() if peer.get("HomeDERP") == 900]
        assert len(reached) == 5
        assert all(peer["DiscoKey"] != "discokey:" + "0" * 64 for peer in reached)


def test_only_the_first_message_lists_all_peers() -> None:
    """27, 28: later an empty list would mean nothing, and a full one would hide what is beside it."""
    for one in heard():
        first, *later = one.messages
        assert "Node" in first
        assert not {"PeersChanged", "PeersRemoved", "PeersChangedPatch"} & first.keys()
        assert not any("Peers" in message for message in later)


def test_a_node_is_always_told_whole() -> None:
    """29, 30: each Node of oneself has capabilities, addresses and approval, first or later."""
    seen: list[Json] = [one["Node"] for one in each_message() if "Node" in one]
    for node in seen:
        assert {
            "CapMap",
            "AllowedIPs",
            "Addresses",
            "StableID",
            "Key",
            "User",
            "Cap",
        } <= node.keys()
        assert node["MachineAuthorized"] is True
        assert node["CapMap"]
    assert all(node["MachineAuthorized"] is True for node in each_node())


def test_no_expiry_is_in_the_past_by_accident() -> None:
    """31: the only expiry before now is the one that an operator set."""
    told = [node["KeyExpiry"] for node in [*each_node(), *each_patch()] if "KeyExpiry" in node]
    assert {text for text in told if text < rfc3339(START + timedelta(days=1))} <= {rfc3339(START)}


def test_routes_are_allowed_before_they_are_primary() -> None:
    """34: AllowedIPs holds the addresses and every primary route, and is never empty."""
    for node in each_node():
        own: list[str] = node["Addresses"]
        allowed: list[str] = node.get("AllowedIPs", own)
        primary: list[str] = node.get("PrimaryRoutes", [])
        assert {*own, *primary} <= set(allowed)


def test_the_relay_map_is_sent_once() -> None:
    """35, 36: it has a region, ids agree and fit in 16 bits, and no delta redefines it."""
    for one in heard():
        first, *later = one.messages
        regions = first["DERPMap"]["Regions"]
        assert regions
        for number, region in regions.items():
            assert int(number) == region["RegionID"]
            assert 0 < region["RegionID"] < 65536
            assert region["Nodes"]
        assert not any("DERPMap" in message for message in later)


def test_filters_are_ones_that_clients_keep() -> None:
    """37: no SrcBits, no host bits, both families; nothing is said by leaving the filter out."""
    assert all("PacketFilters" in one.messages[0] for one in heard())
    rules = list(each_rule())
    for rule in rules:
        assert "SrcBits" not in rule
        families = {version for text in rule["SrcIPs"] for version in versions(text)}
        assert families == {4, 6} or rule["SrcIPs"] == ["10.1.0.0/16"]
        assert all(versions(port["IP"]) for port in rule["DstPorts"])
    assert any(
        port["Ports"] != {"First": 0, "Last": 65535} for r in rules for port in r["DstPorts"]
    )


def versions(text: str) -> set[int]:
    """Return the IP versions of an address, a range, ``*`` or a prefix without host bits."""
    if text == "*":
        return {4, 6}
    first, _, last = text.partition("-")
    return {ip_network(one, strict=True).version for one in (first, last or first)}


def test_owners_are_introduced() -> None:
    """38, 19: each node's User has a profile with a login name, not later than the node."""
    for one in heard():
        known: set[int] = set()
        for message in one.messages:
            profiles = message.get("UserProfiles", [])
            assert all(profile["LoginName"] for profile in profiles)
            known |= {profile["ID"] for profile in profiles}
            told = [message["Node"]] if "Node" in message else []
            told += [*(message.get("Peers") or ()), *message.get("PeersChanged", ())]
            assert {node["User"] for node in told} <= known
    assert all(node["StableID"] for node in each_node())


def test_no_patch_is_one_that_clients_drop() -> None:
    """39: a disco key never travels with the news that its node is offline."""
    for patch in each_patch():
        assert not ("DiscoKey" in patch and patch.get("Online") is False)


def test_nothing_ends_or_silences_a_client() -> None:
    """41, 42: no Exit, and no audit logs where log upload is off; nor the other side effects."""
    for message in each_message():
        assert "Exit" not in message.get("Debug", {})
        assert "SleepSeconds" not in message.get("Debug", {})
        assert not {"PopBrowserURL", "ControlDialPlan", "TKAInfo"} & message.keys()
    assert any(message.get("Debug") == {"DisableLogTail": True} for message in each_message())
    assert not any("audit-logs" in json.dumps(node.get("CapMap")) for node in each_node())


def test_ids_are_numbers_of_one_node() -> None:
    """44: positive, exact in a float, one key and one stable id each at any time."""
    for one in heard():
        listener = GoClient()
        for text in one.texts:
            listener.receive(text.encode())
            assert listener.node is not None
            present = [listener.node, *listener.peers.values()]
            for member in ("ID", "Key", "StableID", "Name"):
                told = [node[member] for node in present]
                assert len(told) == len(set(told))
            assert all(0 < node["ID"] <= 2**53 - 1 for node in present)


def test_rust_can_read_every_message() -> None:
    r"""45: no escape in any text, no null where it reads a value, an IPv4 and an IPv6 address."""
    for one in heard():
        assert not any("\\" in text for text in one.texts)
    for message in each_message():
        assert not list(_nulls(message))
    for node in each_node():
        first, second = node["Addresses"]
        assert (ip_network(first).version, ip_network(second).version) == (4, 6)
        assert (ip_network(first).prefixlen, ip_network(second).prefixlen) == (32, 128)


def _nulls(value: Any, path: str = "") -> Iterator[str]:
    """Yield where null stands, but for chunks of the filter, which it deletes."""
    match value:
        case None:
            if re.fullmatch(r"\.PacketFilters\.[^.]+", path) is None:
                yield path
        case dict():
            for name, item in value.items():
                yield from _nulls(item, f"{path}.{name}")
        case list():
            for item in value:
                yield from _nulls(item, f"{path}[]")


def test_names_are_ones_that_dns_can_say() -> None:
    """47: labels of up to 63 characters under one suffix, with the dot at the end, for everybody."""
    names = {node["Name"] for node in each_node()}
    suffixes = {name.partition(".")[2] for name in names}
    assert len(suffixes) == 1
    assert suffixes.pop().endswith(".")
    label = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
    assert all(label.fullmatch(name.partition(".")[0]) for name in names)
    assert len(names) > len(NAMES)
