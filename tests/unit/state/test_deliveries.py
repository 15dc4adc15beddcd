"""Who has what is in force, counted out of what each replica knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergescale.domain.record import Delivered, Presence, Put
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import NodeId, ReplicaId
from mergescale.state import deliveries
from mergescale.state.deliveries import RANGES, Streams, Tally, is_news, numbers, ranges, tally
from support.clock import START
from support.reach import declare
from support.worlds import deployment, world

ONE, TWO, THREE = (ReplicaId(name) for name in ("one", "two", "three"))
#: Nodes 1 to 4.
TAILNET = world("alice@example.com: a, b, c, d", online=False, declaration=declare())
NONE = Streams(frozenset(), frozenset())


def ids(*numbers: int) -> frozenset[NodeId]:
    return frozenset(map(NodeId, numbers))


def connected(where: Mapping[int, Iterable[ReplicaId]], *said: Delivered) -> Snapshot:
    """Return the tailnet with these map streams, and what replicas said of them."""
    puts = [
        Put(Presence(NodeId(node), replica, START))
        for node, replicas in where.items()
        for replica in replicas
    ]
    snapshot, _ = TAILNET.apply(puts)
    return replace(snapshot, following=replace(snapshot.following, delivered=said))


def of_now(replica: ReplicaId, nodes: str) -> Delivered:
    held = TAILNET.deployment
    assert held is not None
    return Delivered(replica, held.commit, held.applied, nodes)


def test_own_streams_count_once_they_were_written() -> None:
    """Whatever is stored of this replica, and whoever is still shown online."""
    snapshot = connected({1: [ONE], 2: [ONE], 3: [ONE]}, of_now(ONE, "1-4"))
    here = Streams(ids(1, 2), ids(2))
    assert tally(snapshot, ONE, here, alone=False) == Tally(1, 2, 2)
    assert not tally(snapshot, ONE, here, alone=False).complete
    assert tally(snapshot, ONE, Streams(ids(1, 2), ids(1, 2)), alone=False).complete
    assert tally(snapshot, ONE, NONE, alone=False) == Tally(0, 0, 4)


@pytest.mark.parametrize(
    ("said", "reached"),
    [
        ((), 0),
        ((of_now(TWO, "1"),), 1),
        ((of_now(TWO, "1-4"),), 2),
        ((replace(of_now(TWO, "1-4"), commit="f" * 40),), 0),
        ((replace(of_now(TWO, "1-4"), applied=START.replace(year=2001)),), 0),
        ((of_now(THREE, "1-4"),), 0),
    ],
)
def test_others_count_by_what_they_said_of_this_deployment(
    said: tuple[Delivered, ...], reached: int
) -> None:
    """Not what they said of another commit, of the same one the time before, or of others' nodes."""
    snapshot = connected({1: [TWO], 2: [TWO]}, *said)
    assert tally(snapshot, ONE, NONE, alone=False) == Tally(reached, 2, 2)


def test_a_node_at_two_replicas_has_it_when_both_say_so() -> None:
    """One stream of the two is dead, and nobody knows which; a stream here is known to be written."""
    where = {1: [TWO, THREE]}
    assert tally(connected(where, of_now(TWO, "1")), ONE, NONE, alone=False) == Tally(0, 1, 3)
    both = connected(where, of_now(TWO, "1"), of_now(THREE, "1"))
    assert tally(both, ONE, NONE, alone=False) == Tally(1, 1, 3)
    here = Streams(ids(1), ids(1))
    assert tally(connected({1: [ONE, TWO]}), ONE, here, alone=False) == Tally(1, 1, 3)
    unwritten = Streams(ids(1), ids())
    assert tally(both, ONE, unwritten, alone=False) == Tally(0, 1, 3)


def test_alone_nobody_else_is_believed() -> None:
    """What is stored was said by processes that are gone, and their streams with them."""
    snapshot = connected({1: [TWO], 2: [TWO]}, of_now(TWO, "1-4"))
    assert tally(snapshot, ONE, Streams(ids(1), ids(1)), alone=True) == Tally(1, 2, 2)


def test_a_report_forgets_the_gone_and_the_past() -> None:
    """Replicas without nodes, and what was said of another deployment."""
    old = replace(of_now(THREE, "3"), commit="f" * 40)
    snapshot = connected({1: [ONE], 2: [TWO], 3: [THREE]}, of_now(TWO, "2"), old)
    gone = replace(of_now(TWO, "4"), replica=ReplicaId("gone"))
    following = replace(snapshot.following, delivered=(*snapshot.following.delivered, gone))
    snapshot = replace(snapshot, following=following)
    held = snapshot.deployment
    assert held is not None
    made = deliveries.report(ONE, held, ids(1))(snapshot, START)
    assert made.snapshot.following.delivered == (of_now(TWO, "2"), of_now(ONE, "1"))
    again = deliveries.report(ONE, held, ids(1))(made.snapshot, START)
    assert (again.snapshot, again.writes) == (made.snapshot, ())


def test_a_report_of_what_is_in_force_no_more_changes_nothing() -> None:
    """It was replaced before the engine's turn came."""
    snapshot = connected({1: [ONE]})
    made = deliveries.report(ONE, deployment(declare()), ids(1))(snapshot, START)
    assert (made.snapshot, made.writes) == (snapshot, ())


def test_news_is_what_others_would_count_otherwise() -> None:
    """Who came and has it, who is here and has it no more; not who left."""
    snapshot = connected({1: [ONE], 2: [ONE]}, of_now(ONE, "1-2"))
    for streams, news in (
        (Streams(ids(1, 2), ids(1, 2)), False),
        (Streams(ids(1), ids(1)), False),
        (Streams(ids(1, 2, 3), ids(1, 2)), False),
        (Streams(ids(1, 2, 3), ids(1, 2, 3)), True),
        (Streams(ids(1, 2), ids(1)), True),
        (NONE, False),
    ):
        assert is_news(snapshot, ONE, streams) is news
    assert is_news(connected({1: [ONE]}), ONE, Streams(ids(1), ids(1)))


@given(st.sets(st.integers(1, 300)))
def test_ranges_are_read_as_they_were_written(nodes: set[int]) -> None:
    """Every id, and no other."""
    assert set(numbers(ranges(nodes))) == nodes


def test_ranges_are_as_short_as_they_can_be_and_bounded() -> None:
    """A full tailnet is one range; one in pieces is told of in part, and that is no news for ever."""
    assert ranges([7, 3, 1, 2, 4]) == "1-4,7"
    pieces = ids(*range(1, 4 * RANGES, 2))
    told = set(numbers(ranges(pieces)))
    assert len(told) == RANGES
    assert told < pieces
    snapshot = connected({1: [ONE]}, of_now(ONE, ranges(pieces)))
    assert not is_news(snapshot, ONE, Streams(pieces, pieces))
