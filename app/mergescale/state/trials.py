"""Commits that the compiler may not survive: what is written before one is tried, and after.

A trial is recorded before it begins, so that a server that is killed by one, however often it is
started again, does not go on trying. What nobody saw the end of twice is not tried a third time.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Final

from mergescale.domain.record import Trial
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.errors import Conflict
from mergescale.state.outcome import Decision, Outcome, outcome, replaced

#: LIMIT: trials without an end; one may be an unlucky restart.
MOST_UNENDED: Final = 2
#: Why a commit is not tried any more that was begun too often without an end.
UNENDED: Final = "CompilerCrashed"


class Quarantined(Conflict):
    """Raised for a commit that is not tried any more.

    Attributes:
        reason: of its trial.
    """

    code = "conflict.quarantined"

    def __init__(self, trial: Trial) -> None:
        super().__init__(f"{trial.commit[:12]} is in quarantine: {trial.reason}")
        self.reason = trial.reason


def check(snapshot: Snapshot, commit: str) -> None:
    """Refuse what is in quarantine.

    Raises:
        Quarantined: the commit is.
    """
    trial = snapshot.following.trial
    if trial is not None and trial.commit == commit and trial.reason:
        raise Quarantined(trial)


def begin(commit: str, *, ended: bool = False) -> Decision[Trial]:
    """Record that a commit is about to be tried; the only trial that is remembered is the last.

    Args:
        commit: full object id.
        ended: whoever asks saw the end of the trials before, though that is not written.

    Returns (when carried out):
        What is written; with a reason if it is not to be tried again.

    Raises (when carried out):
        Quarantined: it was not to be tried already.
    """

    def decide(snapshot: Snapshot, _: datetime) -> Outcome[Trial]:
        check(snapshot, commit)
        last = snapshot.following.trial
        before = 0 if last is None or last.commit != commit or ended else last.begun
        reason = UNENDED if before >= MOST_UNENDED else ""
        trial = Trial(commit, before + (not reason), reason)
        made = replaced(snapshot, snapshot.following, replace(snapshot.following, trial=trial))
        return outcome(snapshot, made.writes, trial)

    return decide


def condemn(commit: str, reason: str) -> Decision[None]:
    """Put a commit in quarantine.

    Args:
        commit: full object id.
        reason: one CamelCase word.
    """

    def decide(snapshot: Snapshot, _: datetime) -> Outcome[None]:
        last = snapshot.following.trial
        begun = last.begun if last is not None and last.commit == commit else 1
        after = replace(snapshot.following, trial=Trial(commit, begun, reason))
        return outcome(snapshot, replaced(snapshot, snapshot.following, after).writes, None)

    return decide


def end(commit: str) -> Decision[None]:
    """Record that the trial of a commit ended, well or with a verdict."""

    def decide(snapshot: Snapshot, _: datetime) -> Outcome[None]:
        before = snapshot.following
        if before.trial is None or before.trial.commit != commit or before.trial.reason:
            return outcome(snapshot, (), None)
        made = replaced(snapshot, before, replace(before, trial=None))
        return outcome(snapshot, made.writes, None)

    return decide


def forgive() -> Decision[None]:
    """Let the commit in quarantine be tried again."""

    def decide(snapshot: Snapshot, _: datetime) -> Outcome[None]:
        before = snapshot.following
        if before.trial is None:
            return outcome(snapshot, (), None)
        made = replaced(snapshot, before, replace(before, trial=None))
        return outcome(snapshot, made.writes, None)

    return decide
