"""Who has heard what, and the tailnet they are in."""

from __future__ import annotations

import asyncio

import pytest

from bench import tailnet
from bench.link import Server
from bench.swarm import Hearing, Swarm
from mergescale.kernel.keys import MachineKey
from mergescale.policy.repository import declare
from mergescale.wire import mapframe

SERVER = Server("127.0.0.1", 1, MachineKey(b"\x01" * 32))
NEWS = mapframe.compress(b'{"First":9001}')
OTHER = mapframe.compress(b'{"First":9000}')


def test_the_last_who_hears_it_ends_the_wait() -> None:
    """Other messages and repetitions do not count; the time is the last machine's first match."""

    async def story() -> tuple[float, dict[int, float], int]:
        swarm = Swarm([SERVER], 2)
        hearing = Hearing(swarm.machines, b'"First":9001')
        one, two = swarm.machines
        hearing(one, OTHER, 1.0)
        hearing(one, NEWS, 2.0)
        hearing(two, NEWS, 3.0)
        hearing(one, NEWS, 4.0)
        return await hearing.all(), hearing.at, len(hearing.distinct)

    assert asyncio.run(story()) == (3.0, {0: 2.0, 1: 3.0}, 1)


def test_somebody_who_hears_nothing_is_an_error() -> None:
    """The wait has a deadline and says how many are missing."""

    async def story() -> None:
        await Hearing(Swarm([SERVER], 3).machines).all(within_s=0)

    with pytest.raises(TimeoutError, match="3 clients"):
        asyncio.run(story())


def test_the_repository_of_a_run_is_good() -> None:
    """Every policy that a run commits is valid, and each commit changes what it says it does."""
    first = tailnet.Policy()
    texts = {one.text for one in (first, first.next_everywhere(), first.next_web())}
    assert len(texts) == 3
    for text in texts:
        declaration, diagnostics = declare(
            {"policy.hujson": text, "users.hujson": tailnet.users_text()}
        )
        assert declaration is not None, diagnostics


def test_every_client_has_exactly_one_kind_of_owner() -> None:
    """A tenth are web servers, a tenth databases, and the rest belong to declared people."""
    people = {tailnet.login(number) for number in range(tailnet.PEOPLE)}
    tags = [tailnet.tag_of(number) for number in range(1000)]
    assert (tags.count(tailnet.WEB), tags.count(tailnet.DATABASE)) == (100, 100)
    owners = [tailnet.owner_of(number) for number in range(1000)]
    assert {owner for owner in owners if owner} == people
    assert all((tag is None) != (owner is None) for tag, owner in zip(tags, owners, strict=True))


def test_each_replica_has_half_of_every_kind() -> None:
    """Of 1,000 clients, 50 web servers, 50 databases and 400 of people are at each of two."""
    homes = [tailnet.home(number, 2) for number in range(1000)]
    for kind in (tailnet.WEB, tailnet.DATABASE, None):
        found = [homes[number] for number in range(1000) if tailnet.tag_of(number) == kind]
        assert found.count(0) == found.count(1) == len(found) / 2
    assert {tailnet.home(number, 1) for number in range(1000)} == {0}


def test_clients_connect_to_the_server_they_are_dealt_to() -> None:
    """Ten to the first, ten to the second, and so on."""
    other = Server("127.0.0.1", 2, SERVER.key)
    swarm = Swarm([SERVER, other], 40)
    assert [machine.server.port for machine in swarm.machines] == ([1] * 10 + [2] * 10) * 2
