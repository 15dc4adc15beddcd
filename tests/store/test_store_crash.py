"""Kill -9 at every point of a commit: what was acknowledged is there, what is there is whole."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import mergescale
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import NodeId, UserId
from support.stores import loaded, opened
from support.worlds import REPLICA

CHILD = Path(__file__).with_name("crashing.py")
#: A commit of the child sends six statements.
POINTS = [*(f"before:{number}" for number in range(6)), "before:commit", "after:commit"]


def crashes(url: str, *points: str) -> list[str]:
    """Run the child to its deaths; return its reports."""
    package = Path(mergescale.__file__).parents[1]
    path = os.pathsep.join([str(package), str(CHILD.parents[1])])
    done = subprocess.run(
        [sys.executable, str(CHILD), url, *points],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        check=True,
        timeout=50,
    )
    return done.stdout.decode().splitlines()


def survived(url: str) -> Snapshot:
    """Load what the dead left."""

    async def load() -> Snapshot:
        async with opened(url) as store:
            return await loaded(store.journal)

    return asyncio.run(load())


def test_kill_9_loses_nothing_acknowledged_and_leaves_nothing_half(database_url: str) -> None:
    """Two batches are acknowledged; the third is there only if it died after its COMMIT."""
    reports = crashes(database_url, *POINTS)
    first = 0
    for point, report in zip(POINTS, reports, strict=True):
        assert report.split() == [point, str(first), str(first + 1), str(first + 2)]
        first += 3 if point == "after:commit" else 2
    snapshot = survived(database_url)
    nodes = [NodeId(number) for number in range(1, first + 1)]
    assert snapshot.revision == first == 2 * len(POINTS) + 1
    assert list(snapshot.nodes) == nodes
    assert snapshot.presence == dict.fromkeys(nodes, frozenset({REPLICA}))
    assert (snapshot.counters.next_node, snapshot.counters.next_user) == (first + 1, UserId(1))
