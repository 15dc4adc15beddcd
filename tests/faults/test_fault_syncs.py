"""Kill -9, and disk errors, at every system call that makes a change durable (strace injects).

``test_fault_kill.py`` kills a whole server at a few of these calls. Here an engine and a reconciler
on a database die at each sync, at the end of the log, and between the pages that are written to the
log and from there to the file. A run without harm says which calls there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import Revision
from mergescale.store.schema import migrate
from support.faults import needs_tracing
from support.operations import OPERATIONS, at_work, make
from support.stores import HOME, content
from support.stores import after as advanced

pytestmark = [pytest.mark.timeout(180)]

CHILD: Final = Path(__file__).with_name("operating.py")
WITH_SUPPORT: Final = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
Content = dict[str, Any]


@dataclass(slots=True)
class Laboratory:
    """A database in which every operation may happen, and a child that carries them out."""

    folder: Path
    child: subprocess.Popen[str]

    def run(self, operation: str, inject: str = "", *, log: str = os.devnull) -> dict[str, Any]:
        """Carry the operation out on a fresh copy; return the child's report."""
        for name in ("run.db-wal", "run.db-shm"):
            (self.folder / name).unlink(missing_ok=True)
        shutil.copyfile(self.folder / "base.db", self.folder / "run.db")
        case = {"url": self.url, "operation": operation, "inject": inject, "log": log}
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(json.dumps(case) + "\n")
        self.child.stdin.flush()
        report: dict[str, Any] = json.loads(self.child.stdout.readline())
        return report

    @property
    def url(self) -> str:
        return f"sqlite+aiosqlite:///{self.folder / 'run.db'}"

    def reference(self, operation: str) -> list[tuple[str, int]]:
        """Return the calls of a run without harm in their order, each with its number."""
        log = self.folder / f"{operation}.log"
        assert self.run(operation, log=str(log)) == {"signal": 0, "said": ["done"]}
        lines = [line.split(maxsplit=1) for line in log.read_text("utf-8").splitlines()]
        assert len({thread for thread, _ in lines}) == 1, "strace counts per thread"
        calls = [line.partition("(")[0] for _, line in lines]
        return [(call, calls[: at + 1].count(call)) for at, call in enumerate(calls)]

    def left(self, operation: str, *, finish: Callable[[Content], bool]) -> tuple[Content, Content]:
        """Start on what is in the database; return it as found and once the work is finished.

        `finish` says whether the operation is to be asked for.
        """
        with contextlib.closing(sqlite3.connect(self.folder / "run.db")) as raw:
            assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert raw.execute("PRAGMA foreign_key_check").fetchall() == []

        async def load() -> tuple[Content, Content]:
            async with at_work(self.url) as tailnet:
                found = content(tailnet.engine.snapshot)
                told = await tailnet.journal.since(HOME, Revision(0))
                assert content(advanced(Snapshot(HOME), told)) == found
                if finish(found):
                    await OPERATIONS[operation](tailnet)
                return found, content(tailnet.engine.snapshot)

        return asyncio.run(load())


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    needs_tracing()
    folder = tmp_path_factory.mktemp("syncs")
    base = f"sqlite+aiosqlite:///{folder / 'base.db'}"
    migrate(base)
    make(base)
    with subprocess.Popen(
        [sys.executable, str(CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=WITH_SUPPORT,
    ) as child:
        try:
            yield Laboratory(folder, child)
        finally:
            child.kill()


def known(laboratory: Laboratory, operation: str) -> tuple[list[tuple[str, int]], Content, Content]:
    """Return the calls of an operation, and what is in the database before and after it."""
    calls = laboratory.reference(operation)
    after, _ = laboratory.left(operation, finish=lambda _: False)
    shutil.copyfile(laboratory.folder / "base.db", laboratory.folder / "run.db")
    before, _ = laboratory.left(operation, finish=lambda _: False)
    assert before["revision"] + 1 == after["revision"]
    return calls, before, after


def thinned(calls: list[tuple[str, int]], *, every: int) -> list[tuple[str, int]]:
    """Return all but writes of pages, and every so many of those: a page is two writes."""
    return [(call, nth) for call, nth in calls if call != "pwrite64" or nth % every == 1]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_kill_9_at_each_sync_leaves_before_or_after(laboratory: Laboratory, operation: str) -> None:
    """Never between; never before once it was acknowledged; what was begun can be finished.

    The same commit is looked at again after every death, and ends in force.
    """
    calls, before, after = known(laboratory, operation)
    assert {"pwrite64", "fdatasync"} <= {call for call, _ in calls}
    outcomes = []
    for call, nth in thinned(calls, every=2):
        where = f"{call} {nth}"
        report = laboratory.run(operation, f"{call}:signal=KILL:when={nth}")
        assert report["signal"] == 9, where
        found, finished = laboratory.left(
            operation, finish=lambda found: found == before or operation == "apply"
        )
        assert found in (before, after), where
        assert found == after or not report["said"], where
        assert finished == after, where
        outcomes.append(found == after)
    # There is one call at which it happens: before it nothing is there, from it on everything.
    assert outcomes == sorted(outcomes)
    assert set(outcomes) == {False, True}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_disk_error_at_a_call_is_refused_and_passes(
    laboratory: Laboratory, operation: str
) -> None:
    """What is in memory is what is in the database, and the same connections then do it.

    After the acknowledgement, when SQLite moves its log into the file, an error takes nothing back.
    """
    calls, _, after = known(laboratory, operation)
    refused = {"NotApplied"} if operation == "apply" else {"StoreUnavailable"}
    said = set()
    for call, nth in thinned(calls, every=9):
        where = f"{call} {nth}"
        report = laboratory.run(operation, f"{call}:error=EIO:when={nth}")
        said |= set(report["said"][:-1])
        assert (report["signal"], report["said"][-1:]) == (0, ["done"]), (where, report)
        assert laboratory.left(operation, finish=lambda _: False)[0] == after, where
    assert said == refused
