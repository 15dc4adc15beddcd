from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from mergescale.domain.apikey import ApiKey
from mergescale.domain.record import Put
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.errors import NotFound
from mergescale.kernel.ids import ApiKeyId, AuthKeyId, LoginId, TailnetName
from mergescale.state.engine import Engine
from mergescale.state.registration import register
from mergescale.state.tailnets import Tailnets
from support.clock import START, FakeClock
from support.journal import MemoryFeed, MemoryJournal
from support.machines import Machine, decided, with_key
from support.worlds import named, step, world


def populated(name: str) -> Snapshot:
    """Return a tailnet whose node, keys and login are called after it."""
    before = world(f"alice@example.com: {name}", tailnet=name)
    before = with_key(before, f"auth-{name}", START)
    before = step(before, [Put(ApiKey(ApiKeyId(f"api-{name}"), bytes(32), "", START))])
    asking = Machine(f"asks-{name}").asks()
    fresh = replace(asking.fresh, login_id=LoginId(f"login-{name}"))
    return decided(before, register(replace(asking, fresh=fresh)), START)[0]


async def two() -> Tailnets:
    engines = {}
    for name in (TailnetName("one"), TailnetName("two")):
        engine = await Engine.open(name, MemoryJournal(), MemoryFeed(), FakeClock())
        engine.snapshot = populated(name)
        engines[name] = engine
    return Tailnets(engines)


@pytest.mark.parametrize("name", ["one", "two"])
def test_whatever_is_shown_leads_to_its_own_tailnet(name: str) -> None:
    """A node key, auth key, API token or login is found in the one tailnet that has it."""
    tailnets = asyncio.run(two())
    engine = tailnets.named(name)
    node = named(engine.snapshot, name)
    assert tailnets.of_node(node.machine_key, node.node_key) == (engine, node)
    assert tailnets.knows_node_key(node.node_key)
    assert tailnets.of_auth_key(AuthKeyId(f"auth-{name}")) is engine
    assert tailnets.of_api_key(ApiKeyId(f"api-{name}")) is engine
    assert tailnets.of_login(LoginId(f"login-{name}")) is engine


def test_what_nobody_has_is_found_nowhere() -> None:
    """A key of another machine, or an unknown one, leads nowhere."""
    tailnets = asyncio.run(two())
    one, other = Machine("one"), Machine("two")
    assert tailnets.of_node(one.key, other.node_key()) is None
    assert not tailnets.knows_node_key(Machine("x").node_key())
    assert tailnets.of_auth_key(AuthKeyId("x")) is None
    assert tailnets.of_api_key(ApiKeyId("x")) is None
    assert tailnets.of_login(LoginId("x")) is None


def test_first_tailnet_is_the_default() -> None:
    """The first one is meant by a hyphen; another name is not guessed at."""
    tailnets = asyncio.run(two())
    assert [engine.snapshot.tailnet for engine in tailnets] == ["one", "two"]
    assert tailnets.default is tailnets.named("-") is tailnets.named("one")
    with pytest.raises(NotFound, match="no such tailnet"):
        tailnets.named("three")
