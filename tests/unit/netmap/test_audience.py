"""Which clients a change can concern."""

from __future__ import annotations

from dataclasses import replace

from mergescale.domain.change import Change
from mergescale.domain.login import PendingLogin
from mergescale.domain.record import Drop, Put
from mergescale.kernel.ids import LoginId, UserId
from mergescale.kernel.keys import MachineKey, NodeKey
from mergescale.netmap.audience import EVERYBODY, audience
from support.clock import START
from support.reach import Rule, declare
from support.tailnet_story import Dice, happen, renumbered
from support.worlds import deployment, key_bytes, named, world

RULES = declare(Rule(("alice@example.com",), ("tag:web",)))
NET = world("alice@example.com: a; bob@example.com: b; tag:web: w; tag:db: d", declaration=RULES)


def names(bits: int) -> set[str]:
    return {NET.nodes[node].name for node in NET.slots.nodes(bits)}


def test_a_node_concerns_itself_and_who_sees_it() -> None:
    """Nobody else hears of it."""
    changed = replace(named(NET, "w"), endpoints=())
    after, change = happen(NET, [Put(changed)])
    assert names(audience(NET, after, change)) == {"a", "w"}


def test_a_node_that_goes_concerns_who_saw_it() -> None:
    """It has no slot afterwards, but those who saw it have."""
    after, change = happen(NET, [Drop(named(NET, "w"))])
    reached = audience(NET, after, change)
    assert {after.nodes[node].name for node in after.slots.nodes(reached)} == {"a"}


def test_a_node_that_moves_concerns_old_and_new_peers() -> None:
    """Who saw it before has to forget it, who sees it now has to learn it."""
    moved = replace(named(NET, "d"), tags=("tag:web",))
    after, change = happen(NET, [Put(moved)])
    assert names(audience(NET, after, change)) == {"a", "d"}
    back, undo = happen(after, [Put(named(NET, "d"))])
    assert names(audience(after, back, undo)) == {"a", "d"}


def test_a_person_concerns_their_nodes_and_who_sees_those() -> None:
    """A display name is in the profiles of both."""
    alice = replace(NET.users[UserId(1)], display_name="A")
    after, change = happen(NET, [Put(alice)])
    assert names(audience(NET, after, change)) == {"a", "w"}


def test_a_commit_concerns_everybody() -> None:
    """Anybody's filter may differ."""
    after, change = happen(NET, [Put(deployment(RULES))])
    assert audience(NET, after, change) == EVERYBODY


def test_a_renumbering_concerns_everybody() -> None:
    """INVARIANT(generation): bits of two generations are never put together."""
    after, change = renumbered(NET, Dice(lambda below: below - 1))
    assert audience(NET, after, change) == EVERYBODY


def test_a_pending_login_concerns_nobody() -> None:
    """No map depends on it."""
    login = PendingLogin(
        id=LoginId("x"),
        machine_key=MachineKey(key_bytes("m")),
        node_key=NodeKey(key_bytes("n")),
        old_node_key=NodeKey.zero(),
        hostinfo=b"{}",
        ephemeral=False,
        capability_version=130,
        created=START,
        expires=START,
    )
    after, change = happen(NET, [Put(login)])
    assert change == Change(logins=frozenset({LoginId("x")}))
    assert audience(NET, after, change) == 0
