"""What is said of the branch's newest commit, and how it comes to the forge."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from mergescale.gitops.forges.port import Note, Pull, Said
from mergescale.gitops.forges.reporter import CHANNEL, Delivering, Reporter, Words
from mergescale.gitops.forges.reports import Check, pending
from mergescale.plan.markdown import MARKER
from mergescale.plan.redaction import Redaction
from mergescale.state.engine import Engine
from support.aio import aio, turns, until
from support.clock import FakeClock
from support.journal import MemoryFeed, MemoryJournal
from support.letters import HOME, MemoryLetters, dispatching, working

ONE, TWO = "1" * 40, "2" * 40


class Heard:
    """A forge that writes down what it is told; `port.Forge`."""

    def __init__(self) -> None:
        self.statuses: list[tuple[str, str, str, str]] = []
        self.comments: list[tuple[int, str]] = []
        self.notes: list[list[Note]] = []
        self.refs: list[str] = []
        self.markers: list[str] = []

    async def set_status(self, commit: str, said: Said) -> None:
        text = f"{said.state}: {said.description}"
        self.statuses.append((commit[:1], said.context, text, said.url))
        self.refs.append(said.ref)

    async def upsert_comment(self, number: int, marker: str, body: str) -> None:
        assert body.startswith(marker)
        self.markers.append(marker)
        self.comments.append((number, body))

    async def open_pulls(self, branch: str) -> Sequence[Pull]:
        return []

    async def annotate(self, commit: str, name: str, notes: Sequence[Note]) -> None:
        self.notes.append(list(notes))

    def head_ref(self, number: int) -> str:
        return ""

    async def close(self) -> None: ...


def status(commit: str, *, current: str | None = None, **told: Any) -> dict[str, Any]:
    """Return a status; condition -> (state, reason, message)."""
    names = ("Valid", "Tested", "Planned", "Applied", "Delivered", "Stalled")
    found = {name: told.get(name.lower(), (None, "NotYet", "")) for name in names}
    return {
        "target": {"commit": commit},
        "current": None if current is None else {"commit": current},
        "problems": told.get("problems", []),
        "conditions": [
            {"name": name, "state": state, "reason": reason, "message": message}
            for name, (state, reason, message) in found.items()
        ],
    }


GOOD: dict[str, Any] = {
    "valid": (True, "Valid", ""),
    "tested": (True, "TestsPassed", ""),
    "planned": (True, "Planned", "3 of 6 pairs change"),
    "applied": (True, "Applied", ""),
    "stalled": (False, "Following", ""),
}


@asynccontextmanager
async def reporting(
    shown: dict[str, Any],
    letters: MemoryLetters | None = None,
    *,
    level: Redaction = Redaction.FULL,
) -> AsyncIterator[tuple[Reporter, Heard]]:
    """Report what `shown` says, which the test changes; no commit of it is in force here."""
    engine = await Engine.open(HOME, MemoryJournal(), MemoryFeed(), FakeClock())
    kept, heard = letters or MemoryLetters(), Heard()
    async with working(kept, FakeClock()) as outbox:
        words = Words("ms", "https://m.example.com/{commit}", "net", "main", level)
        reporter = Reporter(engine, lambda: shown, outbox, kept, words)
        outbox.register(CHANNEL, Delivering(heard, "ms").deliver)
        async with dispatching(outbox):
            yield reporter, heard


ON_ITS_WAY = "pending: in force; not every connected device was sent it yet"


def of_applied(heard: Heard, commit: str = "") -> list[str]:
    """Return what was said of ``applied``, of one commit or of any."""
    return [
        text
        for whose, name, text, _ in heard.statuses
        if name == "ms/applied" and whose in (commit[:1] or whose)
    ]


async def told(reporter: Reporter) -> None:
    await reporter.turn()
    await turns(30)


@aio
async def test_statuses_lead_where_the_configuration_says() -> None:
    """They have the configured prefix and link; paths of annotations are the repository's."""
    problem = {
        "file": "policy.hujson",
        "line": 3,
        "endLine": 3,
        "severity": "error",
        "message": "x",
    }
    shown = status(
        ONE,
        valid=(False, "Invalid", "policy.hujson:3:1: x"),
        tested=(None, "NotReached", ""),
        applied=(False, "Invalid", "policy.hujson:3:1: x"),
        stalled=(True, "Invalid", ""),
        problems=[problem],
    )
    async with reporting(shown) as (reporter, heard):
        await told(reporter)
    link = f"https://m.example.com/{ONE}"
    assert sorted(heard.statuses) == [
        ("1", "ms/applied", "failure: not in force: policy.hujson:3:1: x", link),
        ("1", "ms/plan", "error: not reached: policy.hujson:3:1: x", link),
        ("1", "ms/test", "error: not reached: policy.hujson:3:1: x", link),
        ("1", "ms/validate", "failure: policy.hujson:3:1: x", link),
    ]
    assert heard.notes == [[Note("net/policy.hujson", 3, 3, failure=True, message="x")]]
    assert set(heard.refs) == {"main"}


@aio
async def test_delivered_is_said_once_and_stays() -> None:
    """Devices that come later are no news of the commit; neither is a restart."""
    shown = status(ONE, current=ONE, delivered=(False, "Delivering", "0/2 nodes"), **GOOD)
    letters = MemoryLetters()

    async with reporting(shown, letters) as (reporter, heard):
        await told(reporter)
        # Devices come and go on the way, and GitHub takes a thousand statuses of a check.
        shown.update(status(ONE, current=ONE, delivered=(False, "Delivering", "1/2 nodes"), **GOOD))
        await told(reporter)
        for message in ("2/2 nodes, 0 offline", "3/3 nodes, 0 offline"):
            shown.update(status(ONE, current=ONE, delivered=(True, "Delivered", message), **GOOD))
            await told(reporter)
        shown.update(status(ONE, current=ONE, delivered=(False, "Delivering", "3/4"), **GOOD))
        await told(reporter)
        assert of_applied(heard) == [
            ON_ITS_WAY,
            "success: Delivered 2/2 nodes, 0 offline",
        ]
    shown.update(status(ONE, current=ONE, delivered=(True, "NobodyConnected", "0/0"), **GOOD))
    async with reporting(shown, letters) as (reporter, heard):
        await told(reporter)
        assert of_applied(heard) == []
        shown.update(status(TWO, current=TWO, delivered=(True, "Delivered", "4/4"), **GOOD))
        await told(reporter)
        assert of_applied(heard) == ["success: Delivered 4/4"]


@pytest.mark.parametrize(
    ("level", "said"),
    [
        (Redaction.FULL, 'policy.hujson:3:1: "ana" has 100.64.0.1'),
        (Redaction.NAMES, 'policy.hujson:3:1: "ana" has [address]'),
        (Redaction.COUNTS, "Invalid"),
    ],
)
def test_no_more_is_told_of_the_branch_than_its_readers_may_know(
    level: Redaction, said: str
) -> None:
    """The same as of pull requests; figures stay."""
    message = '"ana" has 100.64.0.1'
    problem = {"file": "policy.hujson", "line": 3, "endLine": 3, "severity": "error"}
    wrong = (False, "Invalid", f"policy.hujson:3:1: {message}")
    planned = (True, "Planned", "3 of 6 pairs change")
    shown = status(
        ONE,
        valid=wrong,
        applied=wrong,
        planned=planned,
        stalled=(True, "Invalid", ""),
        problems=[{**problem, "message": message, "code": "policy.odd"}],
    )

    @aio
    async def check() -> None:
        async with reporting(shown, level=level) as (reporter, heard):
            await told(reporter)
        assert {name: text for _, name, text, _ in heard.statuses} == {
            "ms/validate": f"failure: {said}",
            "ms/test": f"error: not reached: {said}",
            "ms/plan": "success: 3 of 6 pairs change",
            "ms/applied": f"failure: not in force: {said}",
        }
        note = "policy.odd" if level is Redaction.COUNTS else said.partition(":1: ")[2]
        assert [one.message for notes in heard.notes for one in notes] == [note]

    check()


@pytest.mark.parametrize("restarted", [False, True])
def test_what_was_on_its_way_is_ended_when_it_is_overtaken(*, restarted: bool) -> None:
    """No status stays pending for ever; also if the newer commit came while nobody looked."""
    frozen: dict[str, Any] = {
        "applied": (False, "Frozen", "until Monday"),
        "tested": (None, "", ""),
    }
    shown = status(ONE, current=None, **{**GOOD, **frozen})
    letters = MemoryLetters()

    @aio
    async def check() -> None:
        async with reporting(shown, letters) as (reporter, heard):
            reporter.say("9" * 40, pending(Check.TEST, "a pull request"))
            await told(reporter)
            assert of_applied(heard) == ["pending: until Monday"]
            if not restarted:
                shown.update(status(TWO, current=TWO, delivered=(True, "Delivered", "4/4"), **GOOD))
                await told(reporter)
        if restarted:
            shown.update(status(TWO, current=TWO, delivered=(True, "Delivered", "4/4"), **GOOD))
            async with reporting(shown, letters) as (reporter, again):
                await told(reporter)
            heard.statuses += again.statuses
        assert of_applied(heard, TWO) == ["success: Delivered 4/4"]
        of_one = [f"{name} {text}" for whose, name, text, _ in heard.statuses if whose == "1"]
        assert sorted(of_one[-2:]) == [
            f"ms/{name} error: overtaken by 222222222222" for name in ("applied", "test")
        ]
        assert [text for whose, _, text, _ in heard.statuses if whose == "9"] == [
            "pending: a pull request"
        ]

    check()


@aio
async def test_a_commit_in_force_is_delivered_although_a_newer_one_is_refused() -> None:
    """It is overtaken when another one is in its place, not when one tries to be."""
    shown = status(ONE, current=ONE, delivered=(False, "Delivering", "1/2"), **GOOD)
    bad: dict[str, Any] = {**GOOD, "applied": (False, "Invalid", "x"), "stalled": (True, "", "")}
    async with reporting(shown) as (reporter, heard):
        await told(reporter)
        shown.update(status(TWO, current=ONE, delivered=(False, "Delivering", "1/2"), **bad))
        await told(reporter)
        assert of_applied(heard, ONE) == [ON_ITS_WAY]
        shown.update(status(TWO, current=ONE, delivered=(True, "Delivered", "2/2"), **bad))
        for _ in range(2):
            await told(reporter)
        assert of_applied(heard, ONE) == [ON_ITS_WAY, "success: Delivered 2/2"]
        assert of_applied(heard, TWO) == ["failure: not in force: x"]


@aio
async def test_annotations_that_hold_no_more_are_taken_back() -> None:
    """A commit that never had any is not told of."""
    note = Note("policy.hujson", 3, 3, failure=True, message="x")
    async with reporting(status(ONE)) as (reporter, heard):
        for notes in ([note], [note], [], []):
            reporter.annotate(TWO, notes)
            await turns(30)
        reporter.annotate("3" * 40, [])
        await turns(30)
    assert heard.notes == [[replace(note, path="net/policy.hujson")], []]


@pytest.mark.parametrize(
    ("applied", "stalled", "word"),
    [
        ((False, "Suspended", "by ana: holidays"), False, "pending: by ana: holidays"),
        ((False, "Frozen", "until Monday"), False, "pending: until Monday"),
        ((False, "StoreUnavailable", "no database"), False, "pending: no database"),
        ((False, "GateRefused", "blast: all"), True, "failure: not in force: blast: all"),
        ((False, "NonFastForward", "rewritten"), True, "failure: not in force: rewritten"),
    ],
)
def test_what_is_not_in_force_waits_or_failed(
    applied: tuple[bool, str, str], stalled: bool, word: str
) -> None:
    """What somebody holds back, or the database does, is on its way; the rest is not."""
    shown = status(ONE, current=TWO, **{**GOOD, "applied": applied, "stalled": (stalled, "", "")})

    @aio
    async def check() -> None:
        async with reporting(shown) as (reporter, heard):
            await told(reporter)
        assert [text for _, name, text, _ in heard.statuses if name == "ms/applied"] == [word]

    check()


@aio
async def test_saying_the_same_costs_the_database_nothing() -> None:
    """A turn comes every second, for ever."""
    letters = MemoryLetters()
    shown = status(ONE, current=ONE, delivered=(True, "Delivered", "1/1"), **GOOD)
    async with reporting(shown, letters) as (reporter, heard):
        await told(reporter)
        said = list(heard.statuses)
        letters.away = True
        for _ in range(3):
            await told(reporter)
        assert heard.statuses == said


@aio
async def test_several_tailnets_of_one_project_have_a_comment_each() -> None:
    """It begins with the marker by which it is found again, and says whose it is."""
    async with reporting(status(ONE)) as (reporter, heard):
        reporter.comment(7, f"{MARKER}\nhello")
        await turns(30)
        assert heard.comments == [(7, "<!-- mergescale-plan ms -->\n**ms**\n\nhello")]
        usual = Delivering(heard, Words().prefix)
        await usual.deliver("comment/7", {"text": f"{MARKER}\nhello"})
        assert heard.comments[1:] == [(7, f"{MARKER}\nhello")]
        assert heard.markers == ["<!-- mergescale-plan ms -->", MARKER]


@aio
async def test_a_status_that_makes_no_sense_ends_nothing() -> None:
    """The next turn reports again."""
    shown: dict[str, Any] = {"target": {"commit": ONE}}
    async with reporting(shown) as (reporter, heard):
        task = asyncio.create_task(reporter.run())
        await turns(30)
        assert heard.statuses == []
        shown.update(status(ONE, current=ONE, **GOOD))
        reporter.listen(None, None)  # type: ignore[arg-type]
        await until(lambda: heard.statuses)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
