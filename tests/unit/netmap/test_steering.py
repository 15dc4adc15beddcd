"""Which router carries a subnet for whom, where rules name the routers to go through (`via`)."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

from mergescale.domain.record import Drop, Presence, Put, Write
from mergescale.domain.snapshot import Snapshot
from mergescale.netmap.encoder import Encoder
from mergescale.wire.mapframe import Compression
from support.clock import START
from support.policies import governed
from support.tailnet_story import happen
from support.worlds import REPLICA, named, routed

SUBNET = "10.1.0.0/16"
POLICY = json.dumps(
    {
        "tagOwners": {tag: [] for tag in ("tag:east", "tag:west", "tag:a", "tag:b", "tag:c")},
        "grants": [
            {"src": ["tag:a"], "dst": [SUBNET], "ip": ["*"], "via": ["tag:east"]},
            {"src": ["tag:b"], "dst": [SUBNET], "ip": ["*"], "via": ["tag:west"]},
            {"src": ["tag:c"], "dst": [SUBNET], "ip": ["*"]},
        ],
    }
)


def sites() -> Snapshot:
    """East is the primary router; two routers in the west."""
    net = governed("tag:east: e1; tag:west: w1, w2; tag:a: a; tag:b: b; tag:c: c", POLICY)
    for router in ("e1", "w1", "w2"):
        net = routed(net, router, SUBNET)
    return net


def carriers(net: Snapshot, viewer: str) -> list[str]:
    """Return the peers that the viewer's full map sends the subnet through."""
    text = Encoder().full(net, named(net, viewer).id, Compression.NONE, START)
    return [
        peer["Name"].partition(".")[0]
        for peer in json.loads(text[4:])["Peers"]
        if SUBNET in peer["AllowedIPs"]
    ]


def delta(before: Snapshot, writes: list[Write], viewer: str) -> tuple[Snapshot, Any]:
    after, change = happen(before, writes)
    frame = Encoder().delta(before, after, change, named(before, viewer).id, Compression.NONE)
    return after, None if frame is None else json.loads(frame[4:])


def offline(net: Snapshot, name: str) -> list[Write]:
    node = named(net, name)
    seen = replace(node, last_seen=START + timedelta(hours=1))
    return [Drop(Presence(node.id, REPLICA, START)), Put(seen)]


def test_everybody_goes_through_the_router_that_lets_them() -> None:
    """The primary where it lets the viewer through, else the oldest of those that do."""
    net = sites()

    assert carriers(net, "a") == ["e1"]
    assert carriers(net, "b") == ["w1"]
    assert carriers(net, "c") == ["e1"]


def test_routers_send_to_the_primary() -> None:
    """Who routes the subnet too sees it at the primary, which itself sends it nowhere."""
    net = governed(
        "tag:east: e1; tag:west: w1",
        '{"tagOwners": {"tag:east": [], "tag:west": []},'
        ' "grants": [{"src": ["tag:east", "tag:west"], "dst": ["tag:east", "tag:west"], "ip": ["*"]}]}',
    )
    net = routed(routed(net, "e1", SUBNET), "w1", SUBNET)

    assert carriers(net, "w1") == ["e1"]
    assert carriers(net, "e1") == []


def test_a_tagged_router_that_goes_offline_hands_over() -> None:
    """The delta moves the subnet to the other router with the tag, as a full map would."""
    net = sites()
    after, message = delta(net, offline(net, "w1"), "b")

    assert carriers(after, "b") == ["w2"]
    routes = {peer["ID"]: peer["AllowedIPs"][2:] for peer in message["PeersChanged"]}
    assert routes == {named(net, "w1").id: [], named(net, "w2").id: [SUBNET]}


def test_others_hear_nothing_of_a_route() -> None:
    """A client that goes through another router is told of the loss only if it sees the router."""
    net = sites()
    after, message = delta(net, offline(net, "w1"), "a")

    assert message is None
    assert carriers(after, "a") == ["e1"]
