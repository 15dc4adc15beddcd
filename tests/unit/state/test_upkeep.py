from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from mergescale.domain.apikey import ApiKey
from mergescale.domain.node import Node
from mergescale.domain.record import Drop, Put
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.tailnet import Settings
from mergescale.kernel.ids import ApiKeyId, NodeId
from mergescale.state import apikeys, authkeys, logins, presence, upkeep
from mergescale.state.registration import register
from mergescale.state.upkeep import Swept
from support.access import table
from support.clock import START
from support.machines import Machine, decided, with_key
from support.worlds import REPLICA, named, step, world

A = NodeId(1)
TIMEOUT = timedelta(minutes=30)
TICK = timedelta(seconds=1)


def ephemeral(*, online: bool = False, **change: object) -> Snapshot:
    declaration = table(settings=Settings(ephemeral_timeout=TIMEOUT))
    before = world("alice@example.com: a, b", declaration=declaration, online=online)
    node: Node = replace(named(before, "a"), ephemeral=True, created=START, **change)  # type: ignore[arg-type]
    return step(before, [Put(node)])


def swept(before: Snapshot, now: datetime) -> Snapshot:
    """Return the world after the sweep, which must have been due exactly if it does something."""
    outcome = upkeep.sweep()(before, now)
    assert upkeep.due(before, now) is bool(outcome.writes)
    return outcome.snapshot


@pytest.mark.parametrize(
    ("last_seen", "gone_at"),
    [
        (None, START + TIMEOUT),
        (START + timedelta(hours=2), START + timedelta(hours=2) + TIMEOUT),
        (START - timedelta(hours=2), START + TIMEOUT),
    ],
)
def test_offline_ephemeral_nodes_go_after_a_while(
    last_seen: datetime | None, gone_at: datetime
) -> None:
    """An ephemeral node goes some time after it was last seen, or was made if it never was."""
    before = ephemeral(last_seen=last_seen)
    assert A in swept(before, gone_at - TICK).nodes
    assert set(swept(before, gone_at).nodes) == {2}


def test_online_ephemeral_nodes_stay() -> None:
    """Nothing removes an ephemeral node while it is connected; coming back saves it."""
    late = START + timedelta(days=30)
    assert A in swept(ephemeral(online=True), late).nodes
    before, _ = decided(ephemeral(), presence.connected(A, REPLICA), START)
    assert A in swept(before, late).nodes


def test_expired_logins_go() -> None:
    """Logins are dropped when they expire, decided or not."""
    before, _ = decided(world(""), register(Machine("laptop").asks()), START)
    assert len(swept(before, START + logins.LIFE - TICK).logins) == 1
    assert not swept(before, START + logins.LIFE).logins


def test_keys_go_a_week_after_their_end() -> None:
    """Auth keys and API tokens that ended are forgotten in time."""
    before = with_key(world("alice@example.com: "), "k", START)
    token = ApiKey(ApiKeyId("t"), bytes(32), "", START, START + authkeys.DEFAULT_LIFE)
    before = step(before, [Put(token)])
    end = START + authkeys.DEFAULT_LIFE + authkeys.KEPT_AFTER_END
    assert authkeys.KEPT_AFTER_END == apikeys.KEPT_AFTER_END
    kept = swept(before, end - TICK)
    assert (len(kept.auth_keys), len(kept.api_keys)) == (1, 1)
    gone = swept(before, end)
    assert (len(gone.auth_keys), len(gone.api_keys)) == (0, 0)


def test_sweep_counts_what_it_removed() -> None:
    """The answer says how many of each went."""
    before, _ = decided(ephemeral(), register(Machine("laptop").asks()), START)
    outcome = upkeep.sweep()(before, START + timedelta(hours=1))
    assert outcome.answer == Swept(nodes=1, logins=1, keys=0)
    assert [type(write) for write in outcome.writes] == [Drop, Drop]
    idle = upkeep.sweep()(world(""), START)
    assert (idle.answer, idle.writes) == (Swept(0, 0, 0), ())
