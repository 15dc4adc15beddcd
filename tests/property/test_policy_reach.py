"""Answers of ``policy can`` against what clients would do with the maps they are sent."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mergescale.domain.node import Node
from mergescale.domain.prefixes import TAILNET_V4, TAILNET_V6, Address, is_exit, sort_key
from mergescale.domain.record import Put
from mergescale.domain.snapshot import Snapshot
from mergescale.netmap.cache import Cache
from mergescale.netmap.evaluate import rendered
from mergescale.netmap.reach import End, Reach
from mergescale.policy.compiled import compiled
from support.policies import admits, chunks_of, governed
from support.worlds import step

NODES = "ana@example.com: n1, n2; ben@example.com: n3; tag:a: n4; tag:a+tag:b: n5; tag:b: n6"
SOURCES = (
    "*",
    "ana@example.com",
    "group:g",
    "tag:a",
    "autogroup:member",
    "100.64.0.0/30",
    "10.1.2.0/24",
)
TARGETS = (
    *SOURCES[:5],
    "100.64.0.5",
    "10.1.0.0/16",
    "10.1.2.3",
    "autogroup:internet",
    "fd00:1::/64",
)
OUTSIDE = ("10.1.2.3", "10.1.9.9", "10.2.0.1", "192.0.2.7", "fd00:1::5")
PREFIXES = ("10.1.0.0/16", "10.1.2.0/24", "fd00:1::/64", "0.0.0.0/0", "::/0")
IP = ("*", "22", "tcp:80-90", "udp:*", "icmp:*")

rules = st.fixed_dictionaries(
    {
        "src": st.lists(st.sampled_from(SOURCES), min_size=1, max_size=2),
        "dst": st.lists(st.sampled_from(TARGETS), min_size=1, max_size=2),
        "ip": st.lists(st.sampled_from(IP), min_size=1, max_size=2),
    },
    optional={"via": st.just(["tag:a"])},
)
own_rules = st.just({"src": ["group:g"], "dst": ["autogroup:self"], "ip": ["22"]})
routings = st.dictionaries(
    st.sampled_from(["n1", "n4", "n5", "n6"]), st.sets(st.sampled_from(PREFIXES))
)


def under(grants: list[Any], routes: dict[str, set[str]]) -> Snapshot:
    """Return the tailnet under these grants, with routes advertised and approved."""
    text = json.dumps(
        {
            "groups": {"group:g": ["ana@example.com", "ben@example.com"]},
            "tagOwners": {"tag:a": [], "tag:b": []},
            "grants": grants,
        }
    )
    snapshot = governed(NODES, text)
    writes = []
    for name, prefixes in routes.items():
        node = snapshot.nodes[snapshot.names[name]]
        found = tuple(sorted(map(ip_network, prefixes), key=sort_key))
        writes.append(Put(replace(node, advertised=found, approved=frozenset(found))))
    return step(snapshot, writes)


def arrives(snapshot: Snapshot, sender: Node, target: Address, protocol: int, port: int) -> bool:
    """Say whether a packet gets from a node to an address, by the maps alone.

    The sender's client takes the peer with the longest prefix in its map, any exit node if there
    is no other (which passes no tailnet address on), and that peer's client looks into its filter.
    """
    here = target in TAILNET_V4 or target in TAILNET_V6
    peers = rendered(Cache(None, ""), snapshot, sender.id)["Peers"]
    lengths = {
        name: max(
            (
                net.prefixlen
                for net in map(ip_network, one["AllowedIPs"])
                if target in net and not (here and is_exit(net))
            ),
            default=-1,
        )
        for name, one in peers.items()
    }
    longest = max(lengths.values(), default=-1)
    source = str(sender.ipv4 if target.version == 4 else sender.ipv6)
    return longest >= 0 and any(
        admits(chunks_of(snapshot, name), source, str(target), protocol, port)
        for name, length in lengths.items()
        if length == longest
    )


@settings(max_examples=40, deadline=None)
@given(
    grants=st.lists(st.one_of(rules, rules, own_rules), max_size=4),
    routes=routings,
    sender=st.sampled_from(["n1", "n3", "n4", "n6"]),
    protocol=st.sampled_from([1, 6, 17]),
    port=st.sampled_from([22, 80, 443]),
)
def test_an_answer_is_what_the_maps_do(
    grants: list[Any], routes: dict[str, set[str]], sender: str, protocol: int, port: int
) -> None:
    """To every device and to addresses behind routers: yes exactly where a packet arrives.

    An answer that is no names a closest rule only with what keeps it from admitting the packet.
    """
    snapshot = under(grants, routes)
    assert snapshot.policy is not None
    reach = Reach(compiled(snapshot.policy), snapshot)
    source = snapshot.nodes[snapshot.names[sender]]
    targets: list[tuple[End, tuple[Address, ...]]] = [
        (one, (one.ipv4, one.ipv6)) for one in snapshot.nodes.values() if one.id != source.id
    ]
    outside = [ip_address(text) for text in OUTSIDE]
    targets += [(one, (one,)) for one in outside if not any(one in net for net in source.routes)]
    for target, addresses in targets:
        answer = reach.ask(source, target, [protocol], port)
        expected = any(arrives(snapshot, source, one, protocol, port) for one in addresses)
        assert (answer.rule is not None) == expected, (target, answer)
        assert answer.rule is None or (answer.miss is None and not answer.obstacle)
        assert answer.miss is None or answer.miss.gaps or answer.obstacle
