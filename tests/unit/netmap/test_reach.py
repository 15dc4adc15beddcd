"""Which router a packet goes to, and what stands in the way of it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from mergescale.domain.node import Node
from mergescale.domain.record import Put
from mergescale.netmap.reach import Answer, Reach
from mergescale.policy.compiled import compiled
from support.policies import governed
from support.worlds import named, routed, step

NODES = "ana@example.com: laptop; tag:a: wide; tag:b: narrow; tag:c: exit"
POLICY = """{
  "tagOwners": {"tag:a": [], "tag:b": [], "tag:c": []},
  "grants": [
    {"src": ["ana@example.com"], "dst": ["10.0.0.0/8"], "ip": ["80"], "via": ["tag:a"]},
    {"src": ["ana@example.com"], "dst": ["10.0.0.0/8"], "ip": ["443"], "via": ["tag:b"]},
    {"src": ["ana@example.com"], "dst": ["autogroup:internet"], "ip": ["*"]},
  ],
}"""


def ask(address: str, port: int, *, suspended: bool = False) -> Answer:
    """Ask for a packet of Ana's laptop to an address behind one of three routers."""
    snapshot = governed(NODES, POLICY)
    snapshot = routed(snapshot, "wide", "10.1.0.0/16")
    snapshot = routed(snapshot, "narrow", "10.1.2.0/24")
    snapshot = routed(snapshot, "exit", "0.0.0.0/0", "::/0")
    if suspended:
        ana = snapshot.user_by_login("ana@example.com")
        assert ana is not None
        snapshot = step(snapshot, [Put(replace(ana, suspended=True))])
    assert snapshot.policy is not None
    reach = Reach(compiled(snapshot.policy), snapshot)
    return reach.ask(named(snapshot, "laptop"), ip_address(address), [6], port)


def name(node: Node | None) -> str:
    return "" if node is None else node.name


def test_the_longest_prefix_decides_where_a_packet_goes() -> None:
    """What the narrow router does not admit is lost there, although the wide one would admit it."""
    assert name(ask("10.1.9.9", 80).through) == "wide"
    assert ask("10.1.9.9", 80).rule is not None
    assert name(ask("10.1.2.3", 443).through) == "narrow"
    assert ask("10.1.2.3", 443).rule is not None
    assert ask("10.1.2.3", 80).rule is None


def test_an_exit_node_is_for_what_no_other_router_has() -> None:
    """It carries public addresses, not a subnet that nobody routes."""
    assert name(ask("192.0.2.1", 1).through) == "exit"
    assert ask("192.0.2.1", 1).rule is not None
    assert ask("10.9.9.9", 80).rule is None


def test_who_takes_no_part_reaches_nothing() -> None:
    """And no rule is to blame."""
    answer = ask("10.1.9.9", 80, suspended=True)
    assert (answer.rule, answer.miss) == (None, None)
    assert answer.obstacle == "laptop takes no part: ana@example.com is suspended"
