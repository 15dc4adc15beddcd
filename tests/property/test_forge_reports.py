"""Whatever the server finds, a green mark on a forge means that something was looked at (G20)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergescale.gitops.forges.port import State
from mergescale.gitops.forges.reports import Check, Ran, Report, of_branch, passed
from support.clock import FakeClock
from support.letters import MemoryLetters, dispatching, working

COMMITS = ("a" * 40, "b" * 40)
REASONS = ("NotReached", "Suspended", "StoreUnavailable")
NAMES = ("Valid", "Tested", "Planned", "Applied", "Delivered")
STATES = (None, True, False)


def said(
    told: Mapping[str, tuple[bool | None, str, str]], target: str | None, current: str | None
) -> dict[str, Any]:
    """Return a status as operators are shown it."""
    return {
        "conditions": [
            {"name": name, "state": state, "reason": reason, "message": message}
            for name, (state, reason, message) in told.items()
        ],
        "target": None if target is None else {"commit": target},
        "current": None if current is None else {"commit": current},
    }


def test_no_success_without_an_executed_check() -> None:
    """Of every status that there could be, true or not: success only on top of work, and of truth."""
    here, other = COMMITS
    places = ((None, here), (here, here), (here, other), (here, None))
    ran = tuple(product((None, 0, 2), (None, 0, 2)))
    for states, reason, place, counts in product(
        product(STATES, repeat=len(NAMES)), REASONS, places, ran
    ):
        told = {name: (state, reason, "x") for name, state in zip(NAMES, states, strict=True)}
        check_reports(told, place, Ran(*counts), ())
        check_reports(told, place, Ran(*counts), (here,))


def check_reports(
    told: Mapping[str, tuple[bool | None, str, str]],
    place: tuple[str | None, str | None],
    ran: Ran,
    skips: tuple[str, ...],
) -> None:
    """Assert that each success is one."""
    target, current = place
    found = of_branch(said(told, target, current), ran, skips)
    assert len({one.check for one in found}) == len(found)
    truth = {Check.VALIDATE: "Valid", Check.TEST: "Tested", Check.PLAN: "Planned"}
    for report in found:
        if report.state is not State.SUCCESS:
            continue
        assert report.ran >= 1
        assert told[truth.get(report.check, "Applied")][0] is True
        match report.check:
            case Check.TEST:
                assert ran.expectations
            case Check.VALIDATE:
                assert ran.files != 0
            case Check.APPLIED:
                assert target == current
                assert told["Delivered"][0] is not False
            case _:
                pass


@given(st.sampled_from(Check), st.integers(-3, 3))
def test_passing_nothing_is_failing(check: Check, ran: int) -> None:
    """The one place that makes a success makes none of nothing; nor does anybody else."""
    report = passed(check, ran, "good", "nothing was looked at")
    assert (report.state is State.SUCCESS) == (ran >= 1)
    if ran < 1:
        assert (report.state, report.description) == (State.FAILURE, "nothing was looked at")
        with pytest.raises(ValueError, match="looked at nothing"):
            Report(check, State.SUCCESS, "good", ran)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.integers(0, 2)), max_size=12))
def test_what_is_final_is_never_followed_by_what_is_not(
    words: list[tuple[str, bool, int]],
) -> None:
    """Of each key, whatever is said in which order, with restarts in between (G21)."""
    heard: dict[str, list[tuple[bool, int]]] = {}

    async def deliver(key: str, body: Mapping[str, Any]) -> None:
        heard.setdefault(key, []).append((body["final"], body["number"]))

    async def story() -> None:
        letters, clock = MemoryLetters(), FakeClock()
        for half in (words[:6], words[6:]):
            async with working(letters, clock) as outbox:
                outbox.register("forge", deliver)
                async with dispatching(outbox):
                    for key, final, number in half:
                        outbox.say("forge", key, {"final": final, "number": number}, final=final)
                        for _ in range(number):
                            await asyncio.sleep(0)
                    for _ in range(30):
                        await asyncio.sleep(0)

    asyncio.run(story())
    for key, told in heard.items():
        finals = [final for final, _ in told]
        assert finals == sorted(finals), told
        wanted = [(final, number) for at, final, number in words if at == key]
        last = [one for one in wanted if one[0]] or wanted
        assert told[-1] == last[-1]
