"""Commits batches and dies by SIGKILL at a chosen point; run by ``test_store_crash.py``.

    python crashing.py <database URL> <point> ...

One fork per point, each on what the one before left. A point ``before:N`` is before statement N
of the third commit, ``before:commit`` and ``after:commit`` are around its COMMIT. For each point a
line goes to standard output: the point, the revision at its start, each acknowledged revision.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any, NoReturn

from sqlalchemy import Engine, event

from mergescale.domain.record import Counters, Presence, Put
from mergescale.kernel.ids import NodeId, Revision, UserId
from support.clock import START
from support.stores import HOME, loaded, opened
from support.worlds import REPLICA, node

#: Which of a fork's commits dies.
_FATAL = 2


def die(*_: object) -> NoReturn:
    """End as the out-of-memory killer ends a process: no clean-up, no flush."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def arm(engine: Engine, point: str) -> None:
    """Die at the point."""
    when, _, where = point.partition(":")
    if where == "commit" and when == "before":
        event.listen(engine, "commit", die)
    elif where != "commit":
        left = [int(where)]

        def count(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            left[0] -= "BEGIN" not in statement
            if left[0] < 0:
                die()

        event.listen(engine, "before_cursor_execute", count)


async def main(url: str, point: str, acknowledge: int) -> None:
    """Commit batches of one node, presence and counters, and acknowledge each in the pipe."""
    async with opened(url) as store:
        revision = (await loaded(store.journal)).revision
        os.write(acknowledge, f"{point} {revision}".encode())
        for number in range(_FATAL + 1):
            if number == _FATAL:
                arm(store.database.writer.sync_engine, point)
            added = node(revision + 1, f"n{revision + 1}", user=None, tags=("tag:x",))
            online = Presence(added.id, REPLICA, START)
            counters = Counters(NodeId(added.id + 1), UserId(1))
            writes = [Put(added), Put(online), Put(counters)]
            revision = await store.journal.commit(HOME, Revision(revision), writes, START)
            if number == _FATAL:
                die()
            os.write(acknowledge, f" {revision}".encode())


def crash(url: str, point: str) -> str:
    """Run one fork to its death; return what it acknowledged."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        asyncio.run(main(url, point, writing))
        os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        acknowledged = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"{point}: the child did not die"
    return acknowledged


if __name__ == "__main__":
    for chosen in sys.argv[2:]:
        sys.stdout.write(crash(sys.argv[1], chosen) + "\n")
        sys.stdout.flush()
