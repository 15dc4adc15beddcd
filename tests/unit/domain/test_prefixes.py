from __future__ import annotations

from ipaddress import ip_network

import pytest

from mergescale.domain.prefixes import EXIT_ROUTES, covers, is_exit, parse_prefix, sort_key


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        ("10.0.0.0/8", "10.1.0.0/16", True),
        ("10.0.0.0/8", "10.0.0.0/8", True),
        ("10.1.0.0/16", "10.0.0.0/8", False),
        ("0.0.0.0/0", "::1/128", False),
        ("::/0", "fd00::/8", True),
    ],
)
def test_covering_is_containment_within_a_family(outer: str, inner: str, expected: bool) -> None:
    """A prefix covers what lies in it; families never mix."""
    assert covers(ip_network(outer), ip_network(inner)) is expected


def test_only_default_routes_make_exit_nodes() -> None:
    """The two default routes are exit routes, nothing else is."""
    assert all(map(is_exit, EXIT_ROUTES))
    assert not is_exit(ip_network("0.0.0.0/1"))


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "x", ""])
def test_host_bits_and_garbage_are_refused(text: str) -> None:
    """A prefix with host bits is a mistake, not an abbreviation."""
    with pytest.raises(ValueError, match=r"host bits|does not appear to be"):
        parse_prefix(text)


def test_order_is_by_family_address_and_length() -> None:
    """Prefixes sort the same every time."""
    texts = ["::/0", "10.0.0.0/16", "10.0.0.0/8", "9.0.0.0/8"]
    ordered = sorted((parse_prefix(text) for text in texts), key=sort_key)
    assert [str(p) for p in ordered] == ["9.0.0.0/8", "10.0.0.0/8", "10.0.0.0/16", "::/0"]
