"""dns.hujson."""

from __future__ import annotations

import pytest

from mergescale.domain.tailnet import Dns, ExtraRecord
from support.declared import good, said


def test_every_key_becomes_its_setting() -> None:
    """Names lose their case and last dot, addresses become canonical, types are found out."""
    text = """{
        "magicDNS": false,
        "nameservers": ["1.1.1.1", "2606:4700:4700:0::1111", "https://dns.example.com/dns-query"],
        "overrideLocalDNS": true,
        "splitDNS": {"Corp.Example.com.": ["10.0.0.53", "10.0.1.53"]},
        "searchPaths": ["Example.com", "example.com."],
        "extraRecords": [
            {"name": "Wiki.Example.com", "value": "100.64.0.7"},
            {"name": "wiki.example.com", "type": "AAAA", "value": "fd7a:115c:a1e0::7"},
        ],
    }"""
    assert good({"dns.hujson": text}).dns == Dns(
        magic_dns=False,
        nameservers=("1.1.1.1", "2606:4700:4700::1111", "https://dns.example.com/dns-query"),
        override_local=True,
        split={"corp.example.com": ("10.0.0.53", "10.0.1.53")},
        search=("example.com",),
        records=(
            ExtraRecord("wiki.example.com", "A", "100.64.0.7"),
            ExtraRecord("wiki.example.com", "AAAA", "fd7a:115c:a1e0::7"),
        ),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '{"nameservers": ["dns.example.com"]}',
            (
                '"dns.example.com"',
                '"dns.example.com" is not an IP address or an https:// address (DNS over HTTPS)',
                "",
            ),
        ),
        (
            '{"nameservers": ["fe80::1%eth0"]}',
            (
                '"fe80::1%eth0"',
                '"fe80::1%eth0" is not an IP address or an https:// address (DNS over HTTPS)',
                "",
            ),
        ),
        (
            '{"overrideLocalDNS": true}',
            ("true", "devices would be left without any resolver", 'add "nameservers"'),
        ),
        (
            '{"splitDNS": {"a b": ["10.0.0.1"]}}',
            ('"a b"', '"a b" is not a domain name', ""),
        ),
        ('{"splitDNS": {"a.b": []}}', ("[", "the list must not be empty", "")),
        (
            '{"splitDNS": {"a.b": ["10.0.0.1"], "A.b.": ["10.0.0.2"]}}',
            ('"A.b."', '"a.b" is declared twice', "domains are compared without case"),
        ),
        (
            '{"extraRecords": [{"name": "a.b", "type": "A", "value": "::1"}]}',
            ('"A"', "an A record does not hold an IPv6 address", 'write "AAAA" or leave it out'),
        ),
        (
            '{"extraRecords": [{"name": "a.b", "value": "c.d"}]}',
            ('"c.d"', '"c.d" is not an IP address', ""),
        ),
        (
            '{"extraRecords": [{"name": "a.b", "type": "TXT", "value": "1.2.3.4"}]}',
            ('"TXT"', '"TXT" is not one of A and AAAA', ""),
        ),
        (
            '{"searchPath": []}',
            ('"searchPath"', 'key "searchPath" is not known', 'did you mean "searchPaths"?'),
        ),
    ],
)
def test_what_is_wrong_is_underlined(text: str, expected: tuple[str, str, str]) -> None:
    """One mistake, one diagnostic, at the key or the value that is wrong."""
    assert [rest for _, *rest in said({"dns.hujson": text})] == [list(expected)]
