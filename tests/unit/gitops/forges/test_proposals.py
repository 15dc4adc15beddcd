"""Open pull requests with a forge in memory and a real engine: when they are planned, and what is said."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from mergescale.gitops.errors import ReconcileError, Stalled, Transient
from mergescale.gitops.forges import proposals, verdicts
from mergescale.gitops.forges.port import Note, Pull, Said, State
from mergescale.gitops.forges.proposal import shown, trouble
from mergescale.gitops.forges.proposals import (
    CHANNEL,
    GAVE_UP,
    MAX_TRIALS,
    STALE,
    TROUBLE,
    Proposals,
    Terms,
)
from mergescale.gitops.forges.reporter import Reporter, Words
from mergescale.gitops.forges.reports import Check, Report
from mergescale.gitops.git.messages import Found, Merged
from mergescale.gitops.git.source import Source
from mergescale.gitops.outbox import Retry, Says, Undeliverable
from mergescale.gitops.reconcile import Reconciler
from mergescale.gitops.trying.containment import TIMEOUT, Contained
from mergescale.gitops.trying.proving import Proving
from mergescale.plan.gates import Limits
from mergescale.plan.model import Blast, Plan, Verdict
from mergescale.plan.redaction import Redaction
from mergescale.state import users
from mergescale.state.engine import Engine
from support.aio import aio, turns, until
from support.clock import FakeClock
from support.journal import MemoryFeed, MemoryJournal
from support.letters import HOME, MemoryLetters, working
from support.repositories import MemoryFetches
from support.trials import MemoryTrials

GOOD = '{"acls": []}'
WIDER = '{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:22"]}]}'


@dataclass(slots=True)
class Memory:
    """Forge and trials at once; `port.Forge` and `trials.Tries`.

    Attributes:
        pulls: what is open.
        policies: head -> policy of the merge, or why there is none.
        tried: refs, in the order in which they were tried.
    """

    pulls: list[Pull] = field(default_factory=list)
    policies: dict[str, str | ReconcileError | None] = field(default_factory=dict)
    tried: list[str] = field(default_factory=list)
    trouble: Retry | None = None

    def open(self, number: int, policy: str | ReconcileError | None, *, fork: bool = False) -> str:
        """Open a pull request, or push to it; return its head."""
        head = f"{number}{len(self.policies)}".rjust(40, "a")
        self.policies[head] = policy
        self.pulls = [one for one in self.pulls if one.number != number]
        self.pulls.insert(0, Pull(number, head, fork, f"title {number}"))
        return head

    async def open_pulls(self, branch: str) -> Sequence[Pull]:
        assert branch == "main"
        if self.trouble is not None:
            raise self.trouble
        return list(self.pulls)

    def head_ref(self, number: int) -> str:
        return str(number)

    async def attempt(self, ref: str) -> Merged:
        self.tried.append(ref)
        (head,) = (one.head for one in self.pulls if one.number == int(ref))
        policy = self.policies[head]
        match policy:
            case str():
                found = Found(f"tree{head}", "s", "a", 0, True, {"policy.hujson": policy}, [])
                return Merged(head, "b" * 40, found)
            case None:
                return Merged(head, "b" * 40, None)
            case error:
                raise error

    async def set_status(self, commit: str, said: Said) -> None: ...

    async def upsert_comment(self, number: int, marker: str, body: str) -> None: ...

    async def annotate(self, commit: str, name: str, notes: Sequence[Note]) -> None: ...

    async def close(self) -> None: ...


@dataclass(slots=True)
class World:
    """A tailnet with a policy in force, a forge, and what sees to its pull requests."""

    engine: Engine
    clock: FakeClock
    forge: Memory
    letters: MemoryLetters
    outbox: Says
    proposals: Proposals

    async def turn(self) -> None:
        await self.proposals.turn(self.clock, self.outbox)
        await turns()

    def wanted(self, key: str) -> str:
        """Return the body that is wanted of a key of the forge's channel, empty for none."""
        kept = self.letters.kept.get((HOME, "forge", key))
        return "" if kept is None else kept.letter.body

    def states(self, head: str) -> list[str]:
        """Return the states of validate, test and plan."""
        bodies = (self.wanted(f"status/{head}/{check}") for check in ("validate", "test", "plan"))
        return [body.partition('"state":"')[2].partition('"')[0] for body in bodies]

    async def listed(self) -> list[tuple[int, str | None, bool]]:
        letters = await self.letters.states(HOME, CHANNEL)
        return [(one["number"], one["verdict"], one["stale"]) for one in shown(letters)]


@contextlib.asynccontextmanager
async def world(**terms: bool) -> AsyncIterator[World]:
    journal, clock, branch = MemoryJournal(), FakeClock(), MemoryFetches()
    engine = await Engine.open(HOME, journal, MemoryFeed(), clock)
    forge, letters = Memory(), MemoryLetters()
    async with asyncio.TaskGroup() as tasks, working(letters, clock) as outbox:
        tasks.create_task(engine.run())
        reconciler = Reconciler(engine, Source.parse("/srv/policy.git"), branch, clock)
        branch.commit(GOOD)
        reporter = Reporter(engine, dict, outbox, letters, Words())
        wanted = replace(Terms("main", Redaction.FULL, Limits()), **terms)  # type: ignore[arg-type]
        seen = Proposals(engine, forge, forge, reporter, wanted)
        reconciler.listeners.append(seen.listen)
        await reconciler.sync()
        yield World(engine, clock, forge, letters, outbox, seen)
        engine.stop()


@aio
async def test_each_is_planned_once_until_something_moves() -> None:
    """A new head at once; the same head again when people move, but not more often than allowed."""
    async with world() as here:
        head = here.forge.open(7, WIDER)
        for _ in range(3):
            await here.turn()
        assert here.forge.tried == ["7"]
        assert here.states(head) == ["success", "failure", "success"]
        assert "no tests" in here.wanted(f"status/{head}/test")
        assert await here.listed() == [(7, "no effect", False)]
        assert STALE not in here.wanted("comment/7")

        await here.engine.apply(users.create("ana@example.com"))
        await here.turn()
        assert here.forge.tried == ["7"]
        assert await here.listed() == [(7, "no effect", True)]
        assert STALE in here.wanted("comment/7")
        here.clock.advance(timedelta(seconds=60))
        await here.turn()
        assert here.forge.tried == ["7", "7"]
        assert await here.listed() == [(7, "widening", False)]
        assert STALE not in here.wanted("comment/7")

        head = here.forge.open(7, '{"acls": [}')
        await here.turn()
        assert here.forge.tried == ["7"] * 3
        assert here.states(head) == ["failure", "error", "error"]
        assert await here.listed() == [(7, "invalid", False)]


@aio
async def test_closed_ones_are_forgotten() -> None:
    """And one that is opened again is planned again."""
    async with world() as here:
        here.forge.open(7, GOOD)
        await here.turn()
        pull = here.forge.pulls.pop()
        await here.turn()
        assert await here.listed() == []
        here.forge.pulls.append(pull)
        await here.turn()
        assert here.forge.tried == ["7", "7"]
        assert await here.listed() == [(7, "no effect", False)]


@aio
async def test_nothing_is_planned_of_forks_unless_they_are_allowed() -> None:
    """Their statuses are no success, and nobody fetches them."""
    async with world() as here:
        head = here.forge.open(7, WIDER, fork=True)
        for _ in range(2):
            await here.turn()
        assert here.forge.tried == []
        assert here.states(head) == ["skipped"] * 3
        assert here.wanted("comment/7") == ""
        assert await here.listed() == [(7, "not planned: fork", False)]
    async with world(forks=True) as here:
        head = here.forge.open(7, WIDER, fork=True)
        await here.turn()
        assert here.states(head)[0] == "success"


@aio
async def test_a_fork_reports_on_no_commit_of_ours() -> None:
    """Whoever opens one with the commit of another, or of the branch, changes no status there."""
    async with world() as here:
        ours = here.forge.open(7, WIDER)
        in_force = here.engine.snapshot.deployment
        assert in_force is not None
        for number, head in ((8, ours), (9, in_force.commit)):
            here.forge.pulls.append(Pull(number, head, fork=True))
        for _ in range(2):
            await here.turn()
        assert here.states(ours) == ["success", "failure", "success"]
        assert here.states(in_force.commit) == [""] * 3
        told = dict.fromkeys((8, 9), "not planned: fork")
        assert {number: verdict for number, verdict, _ in await here.listed() if number > 7} == told


@aio
async def test_one_that_does_not_move_for_a_month_stays_listed() -> None:
    """The outbox forgets what is old; what is known is said again now and then."""
    async with world() as here:
        here.forge.open(7, GOOD)
        await here.turn()
        here.letters.kept.clear()
        await here.turn()
        assert await here.listed() == []
        here.clock.advance(timedelta(hours=1))
        await here.turn()
        assert await here.listed() == [(7, "no effect", False)]
        assert here.forge.tried == ["7"]


@aio
async def test_a_status_says_why_it_is_still_under_way() -> None:
    """What may work later has its reason beside it."""
    async with world() as here:
        head = here.forge.open(7, Transient("Unreachable", "the repository is away"))
        await here.turn()
        text = '"description":"tried again: the repository is away"'
        assert text in here.wanted(f"status/{head}/plan")


@pytest.mark.parametrize(
    ("pairs", "of", "words"),
    [
        (0, 20, "mixed: no pair of devices changes"),
        (4, 20, "mixed: 20% of all pairs of devices change"),
        (1, 2450, "mixed: less than 1% of all pairs of devices change"),
    ],
)
def test_a_status_has_figures_that_stay_as_devices_come_and_go(
    pairs: int, of: int, words: str
) -> None:
    """Each other description is another status, of which forges take so many."""
    plan = Plan(version=1, hash="x", verdict=Verdict.MIXED, blast=Blast(pairs, of, 0))
    assert verdicts.plan_report(plan) == Report(Check.PLAN, State.SUCCESS, words, 1)


@pytest.mark.parametrize(
    ("policy", "states", "verdict"),
    [
        (None, ["error", "error", "failure"], "conflict"),
        (Stalled("TooLarge", "it is too large"), ["error"] * 3, GAVE_UP),
        (Stalled("BadObjects", "it is broken"), ["error"] * 3, "not planned"),
        (Transient("Unreachable", "away"), ["pending"] * 3, None),
        ('{"acls": [], "tests": [{"src": "a@b.c", "accept": ["a@b.c:22"]}]}', ["success", "failure", "error"], "tests fail"),
    ],
)  # fmt: skip
def test_what_cannot_be_planned_is_no_success(
    policy: str | ReconcileError | None, states: list[str], verdict: str | None
) -> None:
    """It says why; what may work later stays under way and is tried again."""

    @aio
    async def check() -> None:
        async with world() as here:
            head = here.forge.open(7, policy)
            await here.turn()
            assert here.states(head) == states
            assert await here.listed() == [(7, verdict, False)]
            await here.turn()
            assert len(here.forge.tried) == (2 if verdict is None else 1)

    check()


@aio
async def test_one_that_breaks_the_server_does_not_end_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not tried again, so it cannot keep the server busy."""

    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    async with world() as here:
        first = here.forge.open(7, GOOD)
        with monkeypatch.context() as patch:
            patch.setattr(verdicts, "judged", broken)
            await here.turn()
        second = here.forge.open(8, GOOD)
        await here.turn()
        assert (here.states(first)[0], here.states(second)[0]) == ("error", "success")
        assert here.forge.tried == ["7", "8"]


@aio
async def test_what_is_too_much_work_is_given_up_until_it_is_pushed_to_again() -> None:
    """Whatever moves meanwhile: a stranger's pull request must not keep a processor busy for ever."""
    async with world() as here:
        trials = MemoryTrials()
        here.proposals.proving = Proving(here.engine, trials)
        trials.harm = Contained(TIMEOUT)
        head = here.forge.open(7, GOOD)
        await here.turn()
        assert here.states(head) == ["error", "error", "error"]
        assert "did not come to an end" in here.wanted(f"status/{head}/plan")
        await here.engine.apply(users.create("ben@example.com"))
        here.clock.advance(timedelta(hours=1))
        await here.turn()
        assert await here.listed() == [(7, GAVE_UP, False)]
        assert len(trials.works) == 1
        trials.harm = None
        head = here.forge.open(7, GOOD)
        await here.turn()
        assert here.states(head)[0] == "success"


@aio
async def test_what_does_not_end_is_tried_ever_less_often() -> None:
    """Each trial may take a processor for its whole time; another head has another chance."""
    async with world() as here:
        head = here.forge.open(7, Transient("Timeout", "it took longer than 60 s"))
        for _ in range(64):
            await here.turn()
            here.clock.advance(timedelta(seconds=1))
        # After 1, 2, 4, 8, 16 and 32 seconds.
        assert len(here.forge.tried) == 7
        assert here.states(head) == ["pending"] * 3
        here.forge.open(7, GOOD)
        await here.turn()
        assert await here.listed() == [(7, "no effect", False)]


@aio
async def test_what_is_too_large_is_not_fetched_again_because_a_device_comes() -> None:
    """It is as large as it was; only another head is."""
    async with world() as here:
        here.forge.open(7, Stalled("TooLarge", "it is too large"))
        await here.turn()
        await here.engine.apply(users.create("ben@example.com"))
        here.clock.advance(timedelta(hours=1))
        await here.turn()
        assert (await here.listed(), len(here.forge.tried)) == ([(7, GAVE_UP, False)], 1)


@pytest.mark.parametrize(
    ("error", "failures", "pause_s"),
    [
        (Retry("busy", after_s=90.0), 1, 90.0),
        (Retry("hostile", after_s=1e12), 1, 3600.0),
        (Retry("away"), 1, 1.0),
        (Retry("away"), 30, 600.0),
        (Retry("no token", longest_s=2.0), 30, 2.0),
        (Undeliverable("no"), 3, 4.0),
    ],
)
def test_a_forge_is_left_alone_as_it_asks_but_not_for_ever(
    error: Retry | Undeliverable, failures: int, pause_s: float
) -> None:
    """Whatever it asks for, pull requests are looked at again within the hour."""
    assert proposals.pause_s(error, failures) == pause_s


@aio
async def test_a_round_has_bounds() -> None:
    """What is left waits for the next; a forge that does not answer ends none of it."""
    async with world() as here:
        for number in range(1, MAX_TRIALS + 6):
            here.forge.open(number, GOOD)
        await here.turn()
        assert len(here.forge.tried) == MAX_TRIALS
        here.forge.trouble = Retry("away", everything=True)
        with pytest.raises(Retry):
            await here.turn()
        here.forge.trouble = None
        await here.turn()
        assert len(set(here.forge.tried)) == len(here.forge.tried) == MAX_TRIALS + 5


@aio
async def test_what_was_planned_before_a_restart_is_not_planned_again() -> None:
    """It is in the database; what makes no sense there is planned anew."""
    async with world() as here:
        here.forge.open(7, GOOD)
        here.forge.open(8, GOOD)
        await here.turn()
        place = (HOME, CHANNEL, "8")
        kept = here.letters.kept[place]
        kept.letter = replace(kept.letter, body='{"open": true, "number": "8"}')
        task = asyncio.create_task(here.proposals.run(here.clock, here.outbox, here.letters))
        await until(lambda: here.forge.tried.count("8") == 2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert here.forge.tried.count("7") == 1


@aio
async def test_operators_can_see_why_no_pull_request_is_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At every replica, until the forge answers; what is no letter of ours is no trouble."""
    monkeypatch.setattr(proposals, "_FIRST_RETRY_S", 0.0)

    async with world() as here:

        def why() -> str:
            kept = here.letters.kept.get((HOME, CHANNEL, TROUBLE))
            return trouble(None if kept is None else kept.letter)

        here.forge.trouble = Retry("the forge refuses it to this token (403)")
        task = asyncio.create_task(here.proposals.run(here.clock, here.outbox, here.letters))
        await until(lambda: why() == "the forge refuses it to this token (403)")
        here.forge.trouble = None
        await until(lambda: why() == "")
        assert await here.listed() == []
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        kept = here.letters.kept[HOME, CHANNEL, TROUBLE]
        kept.letter = replace(kept.letter, body="{")
        assert why() == ""


@aio
async def test_a_round_that_breaks_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a forge answers, the server goes on, and looks again."""
    monkeypatch.setattr(proposals, "_FIRST_RETRY_S", 0.0)

    async with world() as here:
        here.forge.open(7, GOOD)
        asked, told = [], here.forge.open_pulls

        async def confused(branch: str) -> Sequence[Pull]:
            asked.append(branch)
            if len(asked) == 1:
                raise KeyError("number")
            return await told(branch)

        monkeypatch.setattr(Memory, "open_pulls", lambda _, branch: confused(branch))
        task = asyncio.create_task(here.proposals.run(here.clock, here.outbox, here.letters))
        await until(lambda: here.forge.tried)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
