"""Deltas, judged by the real client: what it made of them is what a full map would give it.

After each step of a random story the Go client is asked over its own map stream (c2n,
``/debug/netmap``) for the network map it has, and for the one it would make of the full map of now.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import pytest

from mergescale.kernel.ids import NodeId
from support.decided_story import EVENTS, PEOPLE, commit, dice_of, prologue
from support.in_process import InProcess, serving_in_process
from support.real_clients import GoClient, eventually, running

pytestmark = pytest.mark.interop

STEPS = 150
#: LIMIT: how long a client may take to put a netmap in force that it has read.
SETTLED_S = 3.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    """Run one server in this process, with people, keys, devices and a first commit."""
    with serving_in_process(tmp_path_factory.mktemp("server")) as server:
        server.apply(*prologue()[:3])
        server.apply(*commit(server.snapshot, dice_of(0)))
        server.apply(*prologue()[3:])
        yield server


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_deltas_add_up_to_the_full_map(
    server: InProcess, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """After every step of a random story the client's netmap equals that of a fresh full map."""
    dice, told = dice_of(seed), []
    name, folder = f"observer{seed}", tmp_path_factory.mktemp("observer")
    with running(GoClient(name, server.url, folder, auth_key=server.auth_key(PEOPLE[0]))):
        observer = _joined(server, name)
        for step in range(STEPS):
            events = [dice.choice(EVENTS) for _ in range(dice.choice((1, 1, 1, 4)))]
            decisions = [d for event in events for d in event(server.snapshot, dice)]
            refused = server.attempt(*decisions)
            told.append((step, [event.__name__ for event in events], refused))
            wrong = _differing(server, observer)
            assert wrong == [], f"seed {seed}, {told[-3:]}"


def _joined(server: InProcess, host: str) -> NodeId:
    """Return the node of the real client, once it has found its relay."""
    eventually("the client has joined", lambda: server.joined(host), within_s=15)
    node = server.node(host)
    assert node is not None
    return node.id


def _differing(server: InProcess, observer: NodeId) -> list[str]:
    """Return where the client's netmap differs from what a full map of now would give it.

    The client puts a new netmap in force a moment after it has read it, so a difference counts
    once it stays. Nothing is sent meanwhile that could mend it.
    """
    deadline = time.monotonic() + SETTLED_S
    while True:
        eventually("it was sent all", lambda: server.caught_up(observer), every_s=0.002)
        node = server.snapshot.nodes[observer]
        revision = server.snapshot.revision
        current, candidate = server.netmaps(node, server.full_map(node))
        # The client's own updates are decisions too and may have come in between.
        if server.snapshot.revision != revision:
            continue
        wrong = list(_places(current, candidate))
        if not wrong or time.monotonic() > deadline:
            return wrong


def _places(current: Any, candidate: Any, place: str = "") -> Iterator[str]:
    """Yield every place where the two differ, and how."""
    pairs: list[tuple[str, Any, Any]] = []
    match current, candidate:
        case dict(), dict():
            keys = sorted(current.keys() | candidate.keys())
            pairs = [(key, current.get(key), candidate.get(key)) for key in keys]
        case list(), list():
            pairs = [(str(i), *two) for i, two in enumerate(zip_longest(current, candidate))]
        case _ if current != candidate:
            yield f"{place}: {current!r}, not {candidate!r}"
    for key, one, other in pairs:
        yield from _places(one, other, f"{place}/{key}")
