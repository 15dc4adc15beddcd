"""What is remembered of trials: begun before, ended after, in quarantine for good."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mergescale.domain.record import Following, Trial
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import TailnetName
from mergescale.state import trials
from mergescale.state.outcome import Decision
from support.clock import START

ONE, TWO = "1" * 40, "2" * 40
EMPTY = Snapshot(TailnetName("default"))


def after(snapshot: Snapshot, *decisions: Decision[Any]) -> Snapshot:
    for decision in decisions:
        snapshot = decision(snapshot, START).snapshot
    return snapshot


def trial(snapshot: Snapshot) -> Trial | None:
    return snapshot.following.trial


def test_a_trial_is_remembered_until_its_end() -> None:
    """With how often it was begun; the rest of what replicas tell each other stays."""
    told = Snapshot(TailnetName("default"), following=Following(status="x", asked=3))
    begun = after(told, trials.begin(ONE))
    assert begun.following == replace(told.following, trial=Trial(ONE, 1))
    assert after(begun, trials.end(ONE)).following == told.following


def test_what_nobody_saw_the_end_of_twice_is_not_begun_a_third_time() -> None:
    """It is in quarantine then, and stays there however often it is begun."""
    twice = after(EMPTY, trials.begin(ONE), trials.begin(ONE))
    assert trial(twice) == Trial(ONE, 2)
    made = trials.begin(ONE)(twice, START)
    assert (made.answer, trial(made.snapshot)) == (
        Trial(ONE, 2, "CompilerCrashed"),
        Trial(ONE, 2, "CompilerCrashed"),
    )
    with pytest.raises(trials.Quarantined) as refused:
        trials.begin(ONE)(made.snapshot, START)
    assert refused.value.reason == "CompilerCrashed"


def test_who_saw_the_end_does_not_count_what_is_not_written() -> None:
    """A database that is away is no crash of the compiler."""
    snapshot = EMPTY
    for _ in range(5):
        snapshot = after(snapshot, trials.begin(ONE, ended=True))
    assert trial(snapshot) == Trial(ONE, 1)


def test_another_commit_begins_anew() -> None:
    """Only the last one is remembered: the branch goes forward."""
    condemned = after(EMPTY, trials.begin(ONE), trials.condemn(ONE, "CompilerTimeout"))
    assert trial(condemned) == Trial(ONE, 1, "CompilerTimeout")
    trials.check(condemned, TWO)
    assert trial(after(condemned, trials.begin(TWO))) == Trial(TWO, 1)


def test_the_end_of_one_trial_is_not_that_of_another_nor_of_a_quarantine() -> None:
    """Two replicas may have looked at different commits."""
    begun = after(EMPTY, trials.begin(ONE))
    assert after(begun, trials.end(TWO)) is begun
    condemned = after(begun, trials.condemn(ONE, "CompilerTimeout"))
    assert after(condemned, trials.end(ONE)) is condemned


def test_what_is_forgiven_is_tried_again() -> None:
    """As if it had never been."""
    condemned = after(EMPTY, trials.begin(ONE), trials.condemn(ONE, "CompilerTimeout"))
    assert trial(after(condemned, trials.forgive(), trials.begin(ONE))) == Trial(ONE, 1)
    assert after(EMPTY, trials.forgive()) is EMPTY
