"""No address is left, or the range was another one once: who is there is not affected."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from mergescale.domain.prefixes import TAILNET_V4, TAILNET_V6
from mergescale.domain.record import Counters, Put
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import NodeId, UserId
from mergescale.state import addresses, nodes
from support.aio import aio
from support.control_world import controlled, people
from support.worlds import named, node, step

pytestmark = pytest.mark.enable_socket

LAST = 5000


def all_taken_for(number: int) -> Snapshot:
    """Return a tailnet in which every address that this node would try is in use."""
    tried, offset = [], number
    for _ in range(addresses._CANDIDATES):
        tried.append(offset)
        offset = (offset + addresses._STRIDE) % TAILNET_V4.num_addresses
    writes = [
        Put(
            replace(
                node(place, f"n{place}", user=None, tags=("tag:web",)),
                ipv4=TAILNET_V4[offset],
                ipv6=TAILNET_V6[offset],
            )
        )
        for place, offset in enumerate(tried, start=1)
    ]
    counters = Put(Counters(NodeId(number - 1), UserId(3)))
    return step(
        people(
            policy_text='{"acls": [{"action": "accept", "src": ["alice@example.com"],'
            ' "dst": ["alice@example.com:*"]}], "tagOwners": {"tag:web": []}}'
        ),
        [*writes, counters],
    )


@aio
async def test_without_a_free_address_only_newcomers_are_refused() -> None:
    """They are told why; who is there goes on, and the next free address lets one in."""
    async with controlled(all_taken_for(LAST)) as control:
        key = await control.auth_key(reusable=True)
        async with control.device("laptop") as laptop, control.device("late") as late:
            await laptop.join(key)
            async with laptop.polling() as stream:
                assert (await stream.next())["Node"]["Name"].startswith("laptop.")
                told = await late.register(auth=key)
                assert told["Error"] == f"all addresses of {TAILNET_V4} are in use"
                await laptop.join(key)
                assert (await laptop.update()).status == 200
                await control.apply(nodes.delete(NodeId(1)))
                await late.join(key)
                [peer] = (await stream.next())["PeersChanged"]
                assert peer["Addresses"][0] == f"{TAILNET_V4[LAST]}/32"


@aio
async def test_an_address_of_an_earlier_range_is_served_and_given_to_nobody() -> None:
    """A node keeps it, its peers reach it there, newcomers come from the range of today."""
    before = people("alice@example.com: old")
    moved = replace(named(before, "old"), ipv4=IPv4Address("10.9.0.5"), ipv6=IPv6Address("fd00::5"))
    async with controlled(step(before, [Put(moved)])) as control:
        async with control.device("laptop") as laptop:
            await laptop.join(await control.auth_key())
            async with laptop.polling() as stream:
                first = await stream.next()
        [peer] = first["Peers"]
        assert peer["AllowedIPs"] == ["10.9.0.5/32", "fd00::5/128"]
        assert IPv4Address(first["Node"]["Addresses"][0].split("/")[0]) in TAILNET_V4
