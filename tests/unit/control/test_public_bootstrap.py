"""Which names are looked up, how often, and for how long anybody waits."""

from __future__ import annotations

import asyncio

from mergescale.control.bootstrap import ANSWER_S, FRESH_S, Bootstrap
from support.fake_time import in_fake_time


class Resolver:
    """The twin of the system's resolver; a name without addresses raises, `slow_s` delays all."""

    def __init__(self, **addresses: str) -> None:
        self.addresses = {name.replace("_", "."): [text] for name, text in addresses.items()}
        self.asked: list[str] = []
        self.slow_s = 0.0

    async def lookup(self, host: str) -> list[str]:
        self.asked.append(host)
        await asyncio.sleep(self.slow_s)
        if host not in self.addresses:
            raise OSError("no such host")
        return self.addresses[host]


def bootstrap(resolver: Resolver, *hosts: str) -> Bootstrap:
    return Bootstrap(lambda: hosts, resolver.lookup)


@in_fake_time
async def test_a_foreign_name_is_never_looked_up() -> None:
    """It has no answer, and costs nothing."""
    resolver = Resolver(ours_example="192.0.2.1", foreign_example="192.0.2.2")
    dns = bootstrap(resolver, "ours.example")
    for name in ("foreign.example", "ours.example.foreign", "x" * 5000, "\0"):
        assert await dns.answer(name) == {}
    assert resolver.asked == []


@in_fake_time
async def test_our_names_are_found_in_any_spelling() -> None:
    """One by name, or all of them; one that does not resolve has no addresses."""
    resolver = Resolver(ours_example="192.0.2.1")
    dns = bootstrap(resolver, "Ours.example", "lost.example")
    assert await dns.answer("OURS.example.") == {"ours.example": ["192.0.2.1"]}
    assert await dns.answer("") == {"lost.example": [], "ours.example": ["192.0.2.1"]}


@in_fake_time
async def test_a_name_is_looked_up_once_however_many_ask() -> None:
    """While a lookup is under way, and while its answer is fresh; then again."""
    resolver = Resolver(ours_example="192.0.2.1")
    resolver.slow_s = 1
    dns = bootstrap(resolver, "ours.example")
    expected = {"ours.example": ["192.0.2.1"]}
    answers = await asyncio.gather(*(dns.answer("ours.example") for _ in range(100)))
    assert answers == [expected] * 100
    await asyncio.sleep(FRESH_S - 2)
    assert await dns.answer("") == expected
    assert len(resolver.asked) == 1
    await asyncio.sleep(2)
    assert await dns.answer("") == expected
    assert len(resolver.asked) == 2


@in_fake_time
async def test_nobody_waits_long_for_a_slow_resolver() -> None:
    """The answer is empty in time, the lookup goes on alone, and later answers have its result."""
    resolver = Resolver(ours_example="192.0.2.1")
    resolver.slow_s = 3 * FRESH_S
    dns = bootstrap(resolver, "ours.example")
    loop = asyncio.get_running_loop()
    for _ in range(3):
        began_s = loop.time()
        assert await dns.answer("") == {"ours.example": []}
        assert loop.time() - began_s == ANSWER_S
        await asyncio.sleep(FRESH_S / 2)
    await asyncio.sleep(FRESH_S / 2)
    assert await dns.answer("") == {"ours.example": []}
    assert resolver.asked == ["ours.example"]
    await asyncio.sleep(FRESH_S)
    resolver.slow_s = 0
    assert await dns.answer("") == {"ours.example": ["192.0.2.1"]}


@in_fake_time
async def test_a_name_that_is_ours_no_more_is_forgotten() -> None:
    """A relay that left the declaration is not answered from memory."""
    resolver = Resolver(ours_example="192.0.2.1", relay_example="192.0.2.2")
    hosts = ["ours.example", "relay.example"]
    dns = Bootstrap(lambda: hosts, resolver.lookup)
    assert len(await dns.answer("")) == 2
    hosts.remove("relay.example")
    assert await dns.answer("relay.example") == {}
    assert dns._lookups.keys() == {"ours.example"}
