"""One look and what follows, with an in-memory branch and a real engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from mergescale.gitops import stages
from mergescale.gitops.errors import Stalled, Transient
from mergescale.gitops.git.source import Source
from mergescale.gitops.reconcile import Reconciler
from mergescale.gitops.stages import Attempt
from mergescale.gitops.status import ConditionName, Status
from mergescale.kernel.ids import TailnetName
from mergescale.state.engine import Engine
from mergescale.state.ports import Fence, StoreUnavailable
from support.aio import aio, until
from support.clock import START, FakeClock
from support.journal import MemoryFeed, MemoryJournal
from support.repositories import MemoryFetches

GOOD = '{"acls": []}'
OPEN = '{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}'
BAD = '{"acls": [],\n "groops": {}}'
FAILING = '{"acls": [], "tests": [{"src": "a@b.c", "accept": ["a@b.c:22"]}]}'
SOURCE = Source.parse("/srv/policy.git")
DUTIES = Fence("duties", 1)


class World:
    """A tailnet's engine, a branch, and what follows it."""

    def __init__(self, engine: Engine, journal: MemoryJournal, clock: FakeClock) -> None:
        self.engine = engine
        self.journal = journal
        self.clock = clock
        self.branch = MemoryFetches()
        self.fence: Fence | None = DUTIES
        self.reconciler = Reconciler(engine, SOURCE, self.branch, clock, lambda: self.fence)

    @property
    def applied(self) -> str | None:
        deployment = self.engine.snapshot.deployment
        return None if deployment is None else deployment.commit


@contextlib.asynccontextmanager
async def world() -> AsyncIterator[World]:
    journal, clock = MemoryJournal(), FakeClock()
    journal.leases[DUTIES.lease] = DUTIES.number
    engine = await Engine.open(TailnetName("default"), journal, MemoryFeed(), clock)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(engine.run())
        yield World(engine, journal, clock)
        engine.stop()


def conditions(status: Status) -> dict[str, tuple[bool | None, str]]:
    return {str(name): (one.state, one.reason) for name, one in status.conditions.items()}


FOLLOWING = {
    "Fetched": (True, "Fetched"),
    "Verified": (None, "Off"),
    "Valid": (True, "Valid"),
    "Tested": (True, "TestsPassed"),
    "Planned": (True, "Planned"),
    "Applied": (True, "Applied"),
    "Stalled": (False, "Following"),
}


@aio
async def test_before_the_first_look_nothing_is_known() -> None:
    """No condition claims anything."""
    async with world() as here:
        status = here.reconciler.status
        assert conditions(status) == dict.fromkeys(FOLLOWING, (None, "NotYet"))
        assert (status.current, status.target, status.last_attempt) == (None, None, None)


@aio
async def test_a_good_commit_comes_into_force() -> None:
    """The deployment holds the texts, who wrote them and when."""
    async with world() as here:
        commit = here.branch.commit(OPEN)
        status = await here.reconciler.sync()
        deployment = here.engine.snapshot.deployment
        assert deployment is not None
        assert (deployment.commit, deployment.files, deployment.subject, deployment.author) == (
            commit,
            {"policy.hujson": OPEN},
            "change the policy",
            "Ana Example",
        )
        assert (deployment.committed, deployment.applied) == (START, START)
        assert here.engine.snapshot.access.policy is deployment.declaration.policy
        assert conditions(status) == FOLLOWING
        assert status.current == status.target
        assert (status.problems, status.attempts, status.last_success) == ((), 0, START)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (
            BAD,
            {
                "Fetched": (True, "Fetched"),
                "Verified": (None, "Off"),
                "Valid": (False, "Invalid"),
                "Tested": (None, "NotReached"),
                "Planned": (None, "NotReached"),
                "Applied": (False, "Invalid"),
                "Stalled": (True, "Invalid"),
            },
        ),
        (
            FAILING,
            {
                "Fetched": (True, "Fetched"),
                "Verified": (None, "Off"),
                "Valid": (True, "Valid"),
                "Tested": (False, "TestsFailed"),
                "Planned": (None, "NotReached"),
                "Applied": (False, "TestsFailed"),
                "Stalled": (True, "TestsFailed"),
            },
        ),
    ],
)
@aio
async def test_a_bad_commit_changes_nothing_and_stays_visible(
    policy: str, expected: dict[str, tuple[bool | None, str]]
) -> None:
    """The last good one stays in force; looking again says the same and judges nothing."""
    async with world() as here:
        good = here.branch.commit(GOOD)
        await here.reconciler.sync()
        before = here.engine.snapshot
        bad = here.branch.commit(policy)
        first = await here.reconciler.sync()
        again = await here.reconciler.sync()
        assert here.engine.snapshot.deployment is before.deployment
        assert here.engine.snapshot.access is before.access
        assert here.branch.looks[-1] == (bad, good)
        for status in (first, again):
            assert conditions(status) == expected
            assert status.current is not None
            assert status.target is not None
            assert (status.current.commit, status.target.commit) == (good, bad)
            assert len(status.problems) == 1
        assert (first.attempts, again.attempts) == (1, 2)
        assert isinstance(here.reconciler.trouble, Stalled)


@aio
async def test_the_place_of_a_problem_is_told_in_words_and_in_data() -> None:
    """`gitops status` shows the line; a tool reads the numbers."""
    async with world() as here:
        here.branch.commit(BAD)
        told = (await here.reconciler.sync()).as_json()
        assert told["current"] is None
        assert told["problems"] == [
            {
                "severity": "error",
                "code": "policy.unknown-key",
                "message": 'policy key "groops" is not known',
                "help": 'did you mean "groups"?',
                "file": "policy.hujson",
                "line": 2,
                "column": 2,
                "endLine": 2,
                "endColumn": 10,
                "rendered": 'policy.hujson:2:2: error: policy key "groops" is not known\n'
                '2 |  "groops": {}}\n  |  ^^^^^^^^\nhelp: did you mean "groups"?',
            }
        ]
        stalled = next(one for one in told["conditions"] if one["name"] == "Stalled")
        assert stalled["message"] == 'policy.hujson:2:2: policy key "groops" is not known'


@aio
async def test_the_next_good_commit_ends_the_trouble() -> None:
    """Nothing of the bad one is left in the status."""
    async with world() as here:
        here.branch.commit(BAD)
        await here.reconciler.sync()
        fixed = here.branch.commit(GOOD)
        status = await here.reconciler.sync()
        assert here.applied == fixed
        assert conditions(status) == FOLLOWING
        assert (status.problems, status.attempts) == ((), 0)
        assert here.reconciler.trouble is None


@aio
async def test_a_lost_remote_keeps_what_is_in_force_and_says_since_when() -> None:
    """Only `Fetched` turns; its `since` stays at the first failure."""
    async with world() as here:
        commit = here.branch.commit(GOOD)
        await here.reconciler.sync()
        here.branch.trouble = Transient("Unreachable", "the repository could not be reached")
        lost = here.clock.advance(timedelta(minutes=1))
        await here.reconciler.sync()
        here.clock.advance(timedelta(minutes=1))
        status = await here.reconciler.sync()
        assert here.applied == commit
        assert conditions(status) == {**FOLLOWING, "Fetched": (False, "Unreachable")}
        assert status.conditions[ConditionName.FETCHED].since == lost
        assert (status.attempts, status.last_success) == (2, START)
        here.branch.trouble = None
        assert conditions(await here.reconciler.sync()) == FOLLOWING


@aio
async def test_trouble_of_the_configuration_stalls_until_it_is_gone() -> None:
    """A deleted branch is for a person to mend; once it is back all is as before."""
    async with world() as here:
        here.branch.commit(GOOD)
        await here.reconciler.sync()
        here.branch.trouble = Stalled("RefMissing", "the branch does not exist")
        status = await here.reconciler.sync()
        assert conditions(status) == {
            **FOLLOWING,
            "Fetched": (False, "RefMissing"),
            "Stalled": (True, "RefMissing"),
        }
        here.branch.trouble = None
        assert conditions(await here.reconciler.sync()) == FOLLOWING


@aio
async def test_after_a_restart_the_commit_in_force_still_is() -> None:
    """Even with the remote gone; nothing is written again when it is back."""
    async with world() as here:
        commit = here.branch.commit(GOOD)
        await here.reconciler.sync()
        revision = here.engine.snapshot.revision
        branch = MemoryFetches()
        branch.trouble = Transient("Unreachable", "the repository could not be reached")
        later = Reconciler(here.engine, SOURCE, branch, here.clock)
        status = await later.sync()
        assert status.current is not None
        assert status.current.commit == commit
        unasked = {**FOLLOWING, "Verified": (None, "NotYet")}
        assert conditions(status) == {**unasked, "Fetched": (False, "Unreachable")}
        branch.trouble, branch.commits = None, here.branch.commits
        assert conditions(await later.sync()) == unasked
        assert here.engine.snapshot.revision == revision


@aio
async def test_rewritten_history_is_refused() -> None:
    """A branch that lost the commit in force is not followed, however good its tip is."""
    async with world() as here:
        commit = here.branch.commit(GOOD)
        await here.reconciler.sync()
        here.branch.commits = {"f" * 40: {"policy.hujson": OPEN}}
        status = await here.reconciler.sync()
        assert here.applied == commit
        assert conditions(status) == {
            "Fetched": (True, "Fetched"),
            "Verified": (None, "NotReached"),
            "Valid": (None, "NotReached"),
            "Tested": (None, "NotReached"),
            "Planned": (None, "NotReached"),
            "Applied": (False, "HistoryRewritten"),
            "Stalled": (True, "HistoryRewritten"),
        }
        here.branch.commits = {commit: {"policy.hujson": GOOD}}
        assert conditions(await here.reconciler.sync()) == FOLLOWING


@aio
async def test_a_database_that_does_not_take_it_is_tried_again() -> None:
    """The commit was good, so it is not marked as judged."""
    async with world() as here:
        commit = here.branch.commit(GOOD)
        here.journal.fail_next = StoreUnavailable("disk full")
        status = await here.reconciler.sync()
        assert here.applied is None
        assert status.conditions[ConditionName.APPLIED].reason == "StoreUnavailable"
        assert isinstance(here.reconciler.trouble, Transient)
        await here.reconciler.sync()
        assert here.applied == commit


@aio
async def test_a_commit_that_breaks_the_compiler_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A poisoned commit costs one attempt, not a server that fails for ever."""
    runs: list[str] = []

    def breaks(attempt: Attempt) -> Attempt:
        runs.append(attempt.found.commit)
        raise RecursionError

    async with world() as here:
        bad = here.branch.commit(GOOD)
        monkeypatch.setattr(stages, "STAGES", (stages.read, breaks))
        await here.reconciler.sync()
        status = await here.reconciler.sync()
        assert runs == [bad]
        assert status.conditions[ConditionName.STALLED].reason == "InternalError"
        monkeypatch.undo()
        assert (await here.reconciler.sync(retry=True)).current is not None
        assert here.applied == bad


@aio
async def test_a_retry_leaves_a_commit_in_force_alone() -> None:
    """An operator who asks to look again does not make every client's map anew."""
    async with world() as here:
        here.branch.commit(GOOD)
        await here.reconciler.sync()
        before = here.engine.snapshot
        assert conditions(await here.reconciler.sync(retry=True)) == FOLLOWING
        assert here.engine.snapshot is before


@aio
async def test_many_who_ask_at_once_share_two_looks() -> None:
    """One is under way already and may have missed a commit; one more is enough for all."""
    async with world() as here:
        here.branch.commit(GOOD)
        here.branch.gate.clear()
        first = asyncio.create_task(here.reconciler.sync())
        await until(lambda: here.branch.looks)
        newer = here.branch.commit(OPEN)
        others = [asyncio.create_task(here.reconciler.sync()) for _ in range(50)]
        await asyncio.sleep(0)
        here.branch.gate.set()
        statuses: list[Any] = [await task for task in (first, *others)]
        assert len(here.branch.looks) == 2
        assert {status.target.commit for status in statuses[1:]} == {newer}


@aio
async def test_who_has_not_the_duties_looks_at_nothing() -> None:
    """It says who follows the repository, and knows what is in force from the others."""
    async with world() as one:
        one.branch.commit(GOOD)
        await one.reconciler.sync()
        newer = one.branch.commit(BAD)
        await one.reconciler.sync()
        one.fence = None
        status = await one.reconciler.sync(retry=True)
        assert conditions(status) == dict.fromkeys(FOLLOWING, (None, "FollowedElsewhere"))
        assert status.conditions[ConditionName.FETCHED].message == (
            "the repository is followed by another replica of this server"
        )
        assert status.current is not None
        assert (status.current.commit, status.target, status.problems) == (one.applied, None, ())
        one.fence = DUTIES
        status = await one.reconciler.sync()
        assert status.target is not None
        assert (status.target.commit, conditions(status)["Valid"][0]) == (newer, False)


@aio
async def test_who_loses_the_duties_on_the_way_applies_nothing() -> None:
    """The number that the look began under is the one that the write carries."""
    async with world() as one:
        commit = one.branch.commit(GOOD)
        one.journal.leases[DUTIES.lease] = 2
        status = await one.reconciler.sync()
        assert one.applied is None
        assert conditions(status)["Applied"] == (False, "LeaseLost")
        one.fence = Fence(DUTIES.lease, 2)
        await one.reconciler.sync()
        assert one.applied == commit


@aio
async def test_listeners_hear_of_every_attempt_and_cannot_break_it() -> None:
    """Each is told the status before and after, also of looks that fail and that find nothing."""
    heard: list[tuple[str | None, str | None, bool | None]] = []

    def listen(before: Status, after: Status) -> None:
        was, now = (one.current.commit[-1] if one.current else None for one in (before, after))
        heard.append((was, now, after.conditions[ConditionName.APPLIED].state))

    def breaks(_before: Status, _after: Status) -> None:
        raise RuntimeError("a listener's own trouble")

    async with world() as here:
        here.reconciler.listeners += [breaks, listen]
        for policy in (GOOD, OPEN, BAD):
            here.branch.commit(policy)
            await here.reconciler.sync()
        here.branch.trouble = Transient("Unreachable", "away")
        await here.reconciler.sync()
        assert here.reconciler.trouble is here.branch.trouble
    assert heard == [(None, "1", True), ("1", "2", True), ("2", "2", False), ("2", "2", False)]
