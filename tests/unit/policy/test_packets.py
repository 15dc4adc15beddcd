"""Single packets against a compiled filter."""

from __future__ import annotations

from ipaddress import ip_address

from mergescale.policy.compiled import compiled
from mergescale.policy.packets import Filter, Packet
from support.policies import chunks_of, governed

POLICY = """{
  "acls": [
    {"action": "accept", "src": ["10.1.0.0/24", "10.2.0.5-10.2.0.9"], "dst": ["ben@example.com:80-90"]},
    {"action": "accept", "src": ["ana@example.com"], "dst": ["ben@example.com:*"], "proto": "udp"},
    {"action": "accept", "src": ["autogroup:danger-all"], "dst": ["100.64.0.2:443"]},
    {"action": "accept", "src": ["ana@example.com"], "dst": ["ben@example.com:22"]},
  ],
}"""


def line(source: str, target: str, protocol: int, port: int) -> int | None:
    """Return the line of the rule that lets a packet in at Ben's device."""
    snapshot = governed("ana@example.com: laptop; ben@example.com: desk", POLICY)
    assert snapshot.policy is not None
    found = Filter(compiled(snapshot.policy), chunks_of(snapshot, "desk")).deciding(
        Packet(ip_address(source), ip_address(target), protocol, port)
    )
    return None if found is None else found.origin.start_line


def test_the_first_rule_that_lets_a_packet_in_decides() -> None:
    """Sources by address, CIDR, range and ``*``; ports by range; protocols by what the rule says."""
    desk, tcp, udp, icmp = "100.64.0.2", 6, 17, 1
    assert line("10.1.0.7", desk, tcp, 80) == 3
    assert line("10.2.0.9", desk, tcp, 90) == 3
    assert line("10.2.0.10", desk, tcp, 90) is None
    assert line("10.1.0.7", desk, tcp, 91) is None
    assert line("10.1.0.7", desk, icmp, 0) == 3
    assert line("100.64.0.1", desk, udp, 22) == 4
    assert line("100.64.0.1", desk, tcp, 22) == 6
    assert line("192.0.2.1", desk, tcp, 443) == 5
    assert line("2001:db8::1", "fd7a:115c:a1e0::2", tcp, 443) is None
    assert line("fd7a:115c:a1e0::1", "fd7a:115c:a1e0::2", udp, 1) == 4
    assert line("100.64.0.1", "100.64.0.1", udp, 1) is None
