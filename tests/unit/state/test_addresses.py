from __future__ import annotations

import time
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import pytest

from mergescale.domain.prefixes import TAILNET_V4, TAILNET_V6
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.errors import Conflict, Invalid
from mergescale.kernel.ids import NodeId, TailnetName
from mergescale.state import addresses
from mergescale.state.addresses import TAILNET, Pool, allocate
from support.worlds import named, world

EMPTY = Snapshot(TailnetName("default"))
TINY = Pool(IPv4Network("100.64.0.0/30"), IPv6Network("fd7a:115c:a1e0::/126"))


def using(*held: str) -> Snapshot:
    return replace(EMPTY, addresses={ip_address(text): NodeId(1) for text in held})


@pytest.mark.parametrize(
    ("number", "v4", "v6"),
    [
        (1, "100.64.0.1", "fd7a:115c:a1e0::1"),
        (256, "100.64.1.0", "fd7a:115c:a1e0::100"),
        (2**22 + 1, "100.64.0.1", "fd7a:115c:a1e0::1"),
    ],
)
def test_address_follows_from_the_id(number: int, v4: str, v6: str) -> None:
    """A node's id is its place in both ranges; after four million ids they start over."""
    assert allocate(EMPTY, NodeId(number)) == (IPv4Address(v4), IPv6Address(v6))


@pytest.mark.parametrize("text", ["100.64.0.7", "fd7a:115c:a1e0::7"])
def test_address_in_use_is_passed_over(text: str) -> None:
    """A candidate with either family in use is left alone."""
    before = using(text)
    v4, v6 = allocate(before, NodeId(7))
    assert v4 not in before.addresses
    assert v6 not in before.addresses
    assert int(v4) - int(TAILNET_V4[0]) == int(v6) - int(TAILNET_V6[0]) != 7


@pytest.mark.parametrize(
    "offset",
    [
        0,
        0x53,
        2**22 - 1,
        int(IPv4Address("100.100.100.100")) - int(TAILNET_V4[0]),
        int(IPv4Address("100.115.92.1")) - int(TAILNET_V4[0]),
        int(IPv4Address("100.115.93.255")) - int(TAILNET_V4[0]),
    ],
)
def test_reserved_addresses_are_never_given(offset: int) -> None:
    """Edges, MagicDNS in both families and ChromeOS's range stay free."""
    v4, v6 = allocate(EMPTY, NodeId(2**22 + offset))
    assert v4 != TAILNET_V4[offset]
    assert TAILNET.allows(v4)
    assert TAILNET.allows(v6)


def test_exhausted_range_is_refused() -> None:
    """A range whose last address is taken gives a clear refusal, whatever the id."""
    before = EMPTY
    for number in range(2):
        pair = allocate(before, NodeId(number + 5), TINY)
        before = replace(before, addresses={**before.addresses, **dict.fromkeys(pair, NodeId(1))})
    assert {str(a) for a in before.addresses} >= {"100.64.0.1", "100.64.0.2"}
    for number in range(8):
        with pytest.raises(Conflict, match=r"all addresses of 100\.64\.0\.0/30 are in use"):
            allocate(before, NodeId(number), TINY)


def test_refusal_of_the_whole_range_is_quick() -> None:
    """Even the real range, completely in use, is refused in well under a second (S9)."""

    class Everything(dict[IPv4Address | IPv6Address, NodeId]):
        def __contains__(self, key: object) -> bool:
            return True

    started = time.perf_counter()
    with pytest.raises(Conflict):
        allocate(replace(EMPTY, addresses=Everything()), NodeId(1))
    assert time.perf_counter() - started < 0.5


def test_every_offset_comes_up() -> None:
    """The steps between candidates visit the whole range before they repeat."""
    pool = Pool(IPv4Network("100.64.0.0/26"), IPv6Network("fd7a:115c:a1e0::/122"))
    before = EMPTY
    for _ in range(62):
        pair = allocate(before, NodeId(1), pool)
        before = replace(before, addresses={**before.addresses, **dict.fromkeys(pair, NodeId(1))})
    assert len(before.addresses) == 2 * 62


@pytest.mark.parametrize("text", ["10.0.0.1", "100.100.100.100", "100.64.0.0", "100.127.255.255"])
def test_operator_may_not_choose_just_anything(text: str) -> None:
    """An address that an operator chooses lies inside the range and is not reserved."""
    before = world("alice@example.com: a, b")
    with pytest.raises(Invalid, match="is not an address for a node"):
        addresses.check_free(before, NodeId(1), ip_address(text))


def test_operator_may_not_take_an_address() -> None:
    """Another node's address is refused, the node's own is fine."""
    before = world("alice@example.com: a, b")
    with pytest.raises(Conflict, match=r'100\.64\.0\.2 belongs to "b"'):
        addresses.check_free(before, NodeId(1), named(before, "b").ipv4)
    addresses.check_free(before, NodeId(1), named(before, "a").ipv4)


PART = IPv4Network("100.81.0.0/30")
NEXT = IPv4Network("100.82.0.0/16")


def test_a_part_of_the_range_gives_the_ipv4_address_only() -> None:
    """In a pool a node has the place of its id, as everywhere; its IPv6 address is as without."""
    assert allocate(EMPTY, NodeId(7), parts=(PART,)) == (
        IPv4Address("100.81.0.3"),
        IPv6Address("fd7a:115c:a1e0::7"),
    )


def test_a_small_part_is_used_up_to_its_last_address() -> None:
    """Edges of a pool are addresses as all others; when none is left the next pool follows."""
    given = set()
    before = EMPTY
    for number in range(1, 5):
        v4, _ = allocate(before, NodeId(number), parts=(PART, NEXT))
        given.add(v4)
        before = using(*map(str, given))

    assert given == set(PART)
    v4, _ = allocate(before, NodeId(5), parts=(PART, NEXT))
    assert v4 == IPv4Address("100.82.0.5")
    with pytest.raises(Conflict, match=r"all addresses of 100\.81\.0\.0/30 are in use"):
        allocate(before, NodeId(5), parts=(PART,))


def test_what_is_reserved_is_so_in_every_part() -> None:
    """A part that holds the first address of the range does not give it."""
    part = IPv4Network("100.64.0.0/31")
    for number in (2, 3):
        v4, _ = allocate(EMPTY, NodeId(number), parts=(part,))
        assert v4 == IPv4Address("100.64.0.1")
