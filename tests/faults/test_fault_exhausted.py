"""No address is left, all are called alike, or the range was another one once.

Who is there is not affected.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from mergescale.domain.prefixes import TAILNET_V4, TAILNET_V6
from mergescale.domain.record import Counters, Put
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.errors import Conflict, Invalid
from mergescale.kernel.ids import NodeId, UserId
from mergescale.state import addresses, names, nodes
from support.aio import aio
from support.control_world import controlled, people
from support.fold import Client
from support.replicas import Held
from support.worlds import named, node, step

pytestmark = pytest.mark.enable_socket

LAST = 5000
AMONG_ALICE = """{"acls": [{"action": "accept", "src": ["alice@example.com"],
 "dst": ["alice@example.com:*"]}], "tagOwners": {"tag:web": []}}"""


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
        people(policy_text=AMONG_ALICE),
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
async def test_a_thousand_equal_host_names_leave_names_for_all() -> None:
    """At the longest label there is too: it is never one that another has, nor a refusal.

    Who has another name does not notice, and whoever leaves gives its name back.
    """
    long = "x" * names.MAX_LABEL_CHARS
    taken = [long, *(f"{long[:-2]}-{n}" for n in range(1, 10))]
    taken += [f"{long[:-3]}-{n}" for n in range(10, 100)]
    taken += [f"{long[:-4]}-{n}" for n in range(100, 1000)]
    before = people(f"alice@example.com: {', '.join(taken)}")
    async with controlled(before) as control:
        key = await control.auth_key(reusable=True)
        alike = {"Hostname": f"{long}more", "OS": "linux"}
        async with control.device("laptop") as laptop, control.device("late") as late:
            await laptop.join(key)
            await late.join(key, Hostinfo=alike)
            assert sorted(control.snapshot.names.keys() - set(taken)) == [
                "laptop",
                f"{long[:-5]}-1000",
            ]
            await control.apply(nodes.delete(named(control.snapshot, taken[7]).id))
            async with control.device("later") as later:
                await later.join(key, Hostinfo=alike)
                async with later.polling() as stream:
                    assert (await stream.next())["Node"]["Name"].startswith(f"{taken[7]}.")
            rename = nodes.rename(named(control.snapshot, "laptop").id, taken[8])
            with pytest.raises(Conflict, match=f'another node is called "{taken[8]}"'):
                await control.apply(rename)


@aio
async def test_an_address_of_an_earlier_range_is_served_and_given_to_nobody() -> None:
    """A node keeps it, peers reach it and let it in there; newcomers come from the range of today.

    Given an address of today, all are told, and nothing names the old one any more.
    """
    before = people("alice@example.com: old", policy_text=AMONG_ALICE)
    earlier = IPv4Address("10.9.0.5"), IPv6Address("fd00::5")
    moved = replace(named(before, "old"), ipv4=earlier[0], ipv6=earlier[1])
    async with (
        controlled(step(before, [Put(moved)])) as control,
        control.device("laptop") as laptop,
    ):
        await laptop.join(await control.auth_key())
        async with laptop.polling() as stream:
            held = Held(laptop, stream, Client())
            await held.sees("old")
            assert held.map.node is not None
            own = IPv4Address(held.map.node["Addresses"][0].removesuffix("/32"))
            assert own in TAILNET_V4
            assert addresses_of(held) == (["10.9.0.5/32", "fd00::5/128"], {*map(str, earlier)})
            today = IPv4Address("100.101.102.103")
            await control.apply(nodes.set_ipv4(moved.id, today))
            now = ["100.101.102.103/32", "fd00::5/128"], {str(today), "fd00::5"}
            await held.until(lambda _: addresses_of(held) == now)
            with pytest.raises(Invalid, match="is not an address for a node"):
                await control.apply(nodes.set_ipv4(moved.id, earlier[0]))


def addresses_of(held: Held) -> tuple[list[str], set[str]]:
    """Return what is routed to the only peer, and what the filter lets in from elsewhere."""
    [peer] = held.map.peers.values()
    assert held.map.node is not None
    own = {address.partition("/")[0] for address in held.map.node["Addresses"]}
    rules = [rule for chunk in held.map.chunks.values() for rule in chunk]
    return peer["AllowedIPs"], {source for rule in rules for source in rule["SrcIPs"]} - own
