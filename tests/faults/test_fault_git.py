"""Git dies, or its disk does, while a commit is fetched: the commit is found the next time.

Nothing that happens to the machine is the commit's fault. It is never said of one that it is bad,
nor that history was rewritten, because git could not look.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from support.faults import needs_tracing
from support.repositories import Repository

pytestmark = [pytest.mark.timeout(180)]

CHILD: Final = Path(__file__).with_name("looking.py")
WITH_SUPPORT: Final = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
#: ``1234 rename("/a", "/b") = 0``, as strace writes it; a call that fails changes nothing.
_LINE = re.compile(r'(?P<pid>\d+) +(?P<call>\w+)\((?:"(?P<path>[^"]*)")?.*\) += (?P<result>-?\d+)')


@dataclass(frozen=True, slots=True)
class Point:
    """A system call: the `nth` of its kind in some process, about `path` if that is not empty."""

    call: str
    nth: int
    path: str = ""

    def inject(self, how: str) -> dict[str, str]:
        """Return the members of a case in which this happens there."""
        return {"inject": f"{self.call}:{how}:when={self.nth}", "path": self.path}


@dataclass(slots=True)
class Workshop:
    """A repository with two commits, the store of a server that knows the first, and a worker."""

    folder: Path
    child: subprocess.Popen[str]
    repository: Repository
    first: str
    second: str

    def restore(self, *, fresh: bool) -> None:
        """Put the store back to where it was, or let there be none."""
        shutil.rmtree(self.store, ignore_errors=True)
        if not fresh:
            shutil.copytree(self.folder / "base.git", self.store)

    @property
    def store(self) -> Path:
        return self.folder / "store.git"

    def look(self, **members: Any) -> Any:
        """Have the worker look; return its reply."""
        case = {"url": str(self.repository.path), "store": str(self.store), **members}
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(json.dumps(case) + "\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())

    def finds(self, **members: Any) -> bool:
        """Say whether the worker finds the second commit, all of it."""
        found = self.look(applied=self.first, **members) or {}
        return (found.get("commit"), found.get("files"), found.get("descends")) == (
            self.second,
            {"policy.hujson": '{"acls": [], "groups": {}}'},
            True,
        )

    def points(self, *, fresh: bool) -> list[Point]:
        """Return the calls of a look without harm that strace can be told apart."""
        self.restore(fresh=fresh)
        log = self.folder / "calls"
        assert self.finds(log=str(log))
        found: dict[Point, None] = {}
        counts: dict[tuple[str, str], int] = {}
        first: dict[tuple[str, int], str] = {}
        for line in filter(None, map(_LINE.match, log.read_text("utf-8").splitlines())):
            pid, call, path = line["pid"], line["call"], line["path"] or ""
            nth = counts[pid, call] = counts.get((pid, call), 0) + 1
            # Each process counts for itself: another one may come to this number first.
            alone = first.setdefault((call, nth), pid) == pid
            named = path.startswith(str(self.store)) and "/tmp_" not in path
            if line["result"] == "0" and (alone or named):
                found[Point(call, nth) if alone else Point(call, 1, path)] = None
        return list(found)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    needs_tracing()
    folder = tmp_path_factory.mktemp("git")
    repository = Repository(folder / "policy.git")
    first = repository.commit({"policy.hujson": '{"acls": []}'})
    with subprocess.Popen(
        [sys.executable, str(CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=WITH_SUPPORT,
    ) as child:
        try:
            made = Workshop(folder, child, repository, first, "")
            assert made.look(store=str(folder / "base.git"))["commit"] == first
            made.second = repository.commit({"policy.hujson": '{"acls": [], "groups": {}}'})
            yield made
        finally:
            child.kill()


@pytest.mark.parametrize("fresh", [False, True], ids=["fetch", "first fetch"])
def test_whatever_a_killed_worker_leaves_the_next_one_finds_the_commit(
    workshop: Workshop, *, fresh: bool
) -> None:
    """It dies with all that it started, right after each call that makes something durable."""
    points = workshop.points(fresh=fresh)
    assert {"fsync", "link", "rename", "unlink"} <= {point.call for point in points}
    for point in points:
        workshop.restore(fresh=fresh)
        died = workshop.look(applied=workshop.first, whole=True, **point.inject("signal=STOP"))
        assert died is None, point
        assert workshop.finds(), point


@pytest.mark.parametrize("how", ["error=EIO", "signal=KILL"])
def test_a_git_that_cannot_write_is_asked_again(workshop: Workshop, how: str) -> None:
    """Whichever call fails in every git process: the commit is found now, or the next time."""
    replies = []
    for point in workshop.points(fresh=False):
        workshop.restore(fresh=False)
        reply = workshop.look(applied=workshop.first, **point.inject(how))
        # Nothing: it was the worker itself that died, which the server tries again.
        reply = reply or {"type": "failed", "retry": True, "reason": "GitEnded"}
        assert reply["type"] == "found" or reply["retry"], (point, reply)
        assert reply.get("descends", True), (point, reply)
        assert workshop.finds(), point
        replies.append(reply.get("reason", "found"))
    assert set(replies) - {"found"} == {"GitEnded" if "KILL" in how else "StoreUnwritable"}


#: What git is asked for, in the order of a look.
WORDS = (
    "ls-remote",
    "fetch",
    "rev-parse",
    "log",
    "merge-base",
    "ls-tree -r",
    "cat-file -t",
    "ls-tree -l",
    "--batch",
    "update-ref",
)
KILLED = "kill -9 $$"
UNREAD = "echo 'fatal: read error: Input/output error' >&2; exit 128"
UNKNOWN = "echo 'fatal: Not a valid commit name' >&2; exit 128"


def broken(workshop: Workshop, word: str, harm: str) -> str:
    """Make a git to which something happens when it is asked for the word; return its folder."""
    program = workshop.folder / "programs" / "git"
    program.parent.mkdir(exist_ok=True)
    real = shutil.which("git")
    program.write_text(f'#!/bin/sh\ncase "$*" in *"{word}"*) {harm};; esac\nexec {real} "$@"\n')
    program.chmod(0o755)
    return str(program.parent)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("harm", [KILLED, UNREAD], ids=["killed", "unread"])
def test_a_git_that_cannot_look_says_nothing_about_the_commit(
    workshop: Workshop, word: str, harm: str
) -> None:
    """Not that it is bad, not that it lacks the folder, not that history was rewritten."""
    workshop.restore(fresh=False)
    reply = workshop.look(applied=workshop.first, search=broken(workshop, word, harm))
    assert (reply["type"], reply.get("retry")) == ("failed", True)
    assert reply["reason"] == ("GitEnded" if harm == KILLED else "StoreUnwritable")
    assert workshop.finds()


def test_an_ancestor_that_an_old_store_lacks_is_fetched_again(workshop: Workshop) -> None:
    """Only what is not among all of the history was rewritten."""
    workshop.restore(fresh=False)
    (workshop.store / "old").touch()
    (workshop.folder / "once").touch()
    harm = f"rm {workshop.folder}/once && {{ {UNKNOWN}; }}"
    assert workshop.finds(search=broken(workshop, "merge-base", harm))
    assert not (workshop.store / "old").exists()
    missing = workshop.look(applied="1" * 40)
    assert (missing["type"], missing["descends"]) == ("found", False)
