"""When waiting for a commit is over though it is not in force."""

from __future__ import annotations

from typing import Any

from mergescale.cli.gitops_wait import _refused, _why

COMMIT = "c" * 40


def status(target: str, **states: bool | None) -> dict[str, Any]:
    conditions = [
        {"name": name, "state": state, "reason": "R", "message": f"about {name}"}
        for name, state in states.items()
    ]
    return {"target": {"commit": target}, "conditions": conditions}


def test_what_only_a_person_can_mend_is_not_waited_for() -> None:
    """The commit is refused, or no commit can be fetched at all; what may yet pass is waited for."""
    refused = status(COMMIT, Fetched=True, Applied=False, Stalled=True)
    assert _refused(refused, COMMIT[:12]) == f"{COMMIT[:12]} is refused: about Applied"
    assert _refused(refused, "d" * 40) == ""
    away = status("d" * 40, Fetched=False, Applied=True, Stalled=True)
    assert _refused(away, COMMIT) == "the repository cannot be followed: about Fetched"
    assert _refused(status(COMMIT, Fetched=False, Applied=None, Stalled=False), COMMIT) == ""
    assert _refused(status(COMMIT, Fetched=True, Applied=False, Stalled=False), COMMIT) == ""


def test_when_time_is_up_it_says_what_is_known() -> None:
    """Why nothing can be fetched, or why this commit waits; nothing of other commits."""
    assert _why(status("d" * 40, Fetched=False, Applied=True), COMMIT) == ": about Fetched"
    assert _why(status(COMMIT, Fetched=True, Applied=False), COMMIT) == ": about Applied"
    assert _why(status("d" * 40, Fetched=True, Applied=False), COMMIT) == ""
