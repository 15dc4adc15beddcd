"""Selectors, ports and protocols: read once, typed from then on."""

from __future__ import annotations

import pytest

from mergescale.policy.diagnostics import file_span
from mergescale.policy.ports import ALL_PORTS, Ports, parse_ports, parse_protocol
from mergescale.policy.selectors import (
    Autogroup,
    Everyone,
    Group,
    Host,
    Malformed,
    Net,
    Range,
    Selector,
    Tag,
    User,
    parse_selector,
)

HERE = file_span("policy.hujson")


@pytest.mark.parametrize(
    ("text", "selector"),
    [
        ("*", Everyone(HERE)),
        ("Ana@Example.com", User("ana@example.com", HERE)),
        ("ana@", User("ana@", HERE)),
        ("group:dev", Group("group:dev", HERE)),
        ("tag:web-1", Tag("tag:web-1", HERE)),
        ("autogroup:members", Autogroup("member", HERE)),
        ("autogroup:member", Autogroup("member", HERE)),
        ("autogroup:tagged", Autogroup("tagged", HERE)),
        ("printer", Host("printer", HERE)),
        ("build-2.corp", Host("build-2.corp", HERE)),
        ("cafe", Host("cafe", HERE)),
        ("10.0.0.5", Net(Range(4, 0x0A000005, 0x0A000005, "10.0.0.5"), HERE)),
        ("10.0.0.5/32", Net(Range(4, 0x0A000005, 0x0A000005, "10.0.0.5"), HERE)),
        ("10.0.0.0/30", Net(Range(4, 0x0A000000, 0x0A000003, "10.0.0.0/30"), HERE)),
        ("10.0.0.1-10.0.0.9", Net(Range(4, 0x0A000001, 0x0A000009, "10.0.0.1-10.0.0.9"), HERE)),
        ("FD00:0::/127", Net(Range(6, 0xFD00 << 112, (0xFD00 << 112) + 1, "fd00::/127"), HERE)),
    ],
)
def test_selectors_are_read(text: str, selector: Selector) -> None:
    """Each form has one type; equal selectors are equal wherever they stand."""
    assert parse_selector(text, HERE) == selector


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("autogroup:admins", 'autogroup "admins" is not known'),
        ("autogroup:nonroot", 'autogroup "nonroot" is not known'),
        ("svc:", '"svc:" is not a service name'),
        ("ipset:", '"ipset:" is not the name of an ipset'),
        ("posture:a", '"posture:a" is a posture, not a device'),
        ("user:ana@example.com", '"user:ana@example.com" is not valid'),
        ("%bogus%", '"%bogus%": invalid address'),
        ("tag:", "\"tag:\": tag names must start with a letter, after 'tag:'"),
        ("group:", '"group:" is not a group name'),
        ("a b@c", '"a b@c" is not a login'),
        ("10.0.0", '"10.0.0": invalid address'),
        ("10.0.0.1/8", '"10.0.0.1/8" has address bits after its prefix'),
        ("10.0.0.9-10.0.0.1", '"10.0.0.9-10.0.0.1": the range ends before it starts'),
        ("10.0.0.1-fd00::1", '"10.0.0.1-fd00::1": the range ends before it starts'),
    ],
)
def test_malformed_selectors_say_why(text: str, message: str) -> None:
    """What is no selector, or none of this version, is never taken for a host name."""
    found = parse_selector(text, HERE)

    assert isinstance(found, Malformed)
    assert found.message == message


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("*", (ALL_PORTS,)),
        ("22", (Ports(22, 22),)),
        ("0", (Ports(0, 0),)),
        ("80-90, 443", (Ports(80, 90), Ports(443, 443))),
        ("0-65535", (ALL_PORTS,)),
        ("", 'port range "": invalid first integer'),
        ("ssh", 'port range "ssh": invalid first integer'),
        ("-1", 'port range "-1": invalid first integer'),
        ("22-", 'port range "22-": invalid last integer'),
        ("65536", 'port range "65536": invalid first integer'),
        ("022", 'port range "022": invalid first integer'),
        ("٣", 'port range "٣": invalid first integer'),
        ("9-8", 'port range "9-8": the first port is above the last'),
    ],
)
def test_ports(text: str, ports: object) -> None:
    """Lists and ranges of decimal ports, or what is wrong."""
    assert parse_ports(text) == ports


@pytest.mark.parametrize(
    ("text", "protocols"),
    [
        ("", ()),
        ("tcp", (6,)),
        ("ipv6-icmp", (58,)),
        ("17", (17,)),
        ("255", (255,)),
        ("256", 'protocol "256" is not known'),
        ("06", 'protocol "06" is not known'),
        ("TCP", 'protocol "TCP" is not known'),
    ],
)
def test_protocols(text: str, protocols: object) -> None:
    """Names and numbers up to 255, no leading zero."""
    assert parse_protocol(text) == protocols
