"""What is said of a commit on its forge: a state for each check, from what the server found.

    validate   the files are a declaration
    test       the policy's own tests hold
    plan       what it does was worked out, and no gate is against it
    applied    it is in force, and delivered

INVARIANT(no empty success): only `passed` makes a success, and it makes a failure of a check that
looked at nothing. A green mark means that something was looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from mergescale.domain.declaration import Declaration
from mergescale.gitops.forges.port import State
from mergescale.plan.redaction import Redaction, without_addresses
from mergescale.policy.compiled import CompiledPolicy

#: Why a good commit is not in force, where somebody wants that for now.
_WAITING: Final = frozenset({"Suspended", "Frozen"})


class Check(StrEnum):
    """Names of the statuses, below the configured prefix; part of the public API."""

    VALIDATE = "validate"
    TEST = "test"
    PLAN = "plan"
    APPLIED = "applied"


@dataclass(frozen=True, slots=True)
class Report:
    """What is said of one check of one commit.

    Attributes:
        ran: how much was looked at: files, expectations, pairs of snapshots.
    """

    check: Check
    state: State
    description: str
    ran: int = 0

    def __post_init__(self) -> None:
        if self.state is State.SUCCESS and self.ran < 1:
            raise ValueError("a check that looked at nothing is no success")

    @property
    def final(self) -> bool:
        """Say whether it is not only on its way."""
        return self.state is not State.PENDING


@dataclass(frozen=True, slots=True)
class Ran:
    """How much the checks of a commit looked at; None where that is not known."""

    files: int | None = None
    expectations: int | None = None


def passed(check: Check, ran: int, description: str, nothing: str) -> Report:
    """Return a success; a failure saying `nothing` if the check looked at nothing."""
    if ran < 1:
        return Report(check, State.FAILURE, nothing)
    return Report(check, State.SUCCESS, description, ran)


def failed(check: Check, description: str) -> Report:
    """Return that the check found something wrong."""
    return Report(check, State.FAILURE, description)


def unreached(check: Check, description: str) -> Report:
    """Return that the check was not carried out, because of what came before it."""
    return Report(check, State.ERROR, description)


def pending(check: Check, description: str) -> Report:
    """Return that the check is under way."""
    return Report(check, State.PENDING, description)


def skipped(check: Check, description: str) -> Report:
    """Return that nobody wants the check."""
    return Report(check, State.SKIPPED, description)


def valid(files: int) -> Report:
    """Return that the files are a declaration."""
    return passed(Check.VALIDATE, files, "the files are good", "there are no policy files")


def tested(expectations: int) -> Report:
    """Return that the policy's tests hold."""
    words = "1 expectation holds" if expectations == 1 else f"{expectations} expectations hold"
    nothing = "nothing was tested: the policy has no tests"
    return passed(Check.TEST, expectations, words, nothing)


def expectations(declaration: Declaration) -> int:
    """Count what the tests of a policy expect."""
    match declaration.policy:
        case CompiledPolicy(document=document):
            run = sum(len(one.accept) + len(one.deny) for one in document.tests)
            more = (len(one.accept) + len(one.check) + len(one.deny) for one in document.ssh_tests)
            return run + sum(more)
        case _:
            return 0


def as_told(said: Mapping[str, Any], level: Redaction) -> Mapping[str, Any]:
    """Return a status as far as the forge's readers may know it: without addresses, or only words.

    Figures stay: how many devices, how many pairs of them.
    """
    if level is Redaction.FULL:
        return said
    counts = level is Redaction.COUNTS
    return {
        **said,
        "conditions": [
            {
                **one,
                "message": ""
                if counts and one["state"] is not True and one["name"] != "Delivered"
                else without_addresses(one["message"]),
            }
            for one in said["conditions"]
        ],
        "problems": [
            {**one, "message": one["code"] if counts else without_addresses(one["message"])}
            for one in said["problems"]
        ],
    }


def of_branch(said: Mapping[str, Any], ran: Ran, skips: Sequence[str]) -> list[Report]:
    """Return what to say of the newest commit of the branch.

    Args:
        said: the status, as operators are shown it.
        ran: how much the checks of that commit looked at.
        skips: commits that were rolled back.
    """
    told = {one["name"]: one for one in said["conditions"]}
    applied = told["Applied"]
    target, current = said["target"], said["current"]
    if applied["state"] is None or target is None:
        return []
    if applied["state"] is False and target["commit"] in skips:
        return [failed(Check.APPLIED, "rolled back, and skipped until somebody accepts it")]
    if applied["state"] and (current is None or current["commit"] != target["commit"]):
        return []
    found = [
        # What is valid has a policy file at least.
        _check(Check.VALIDATE, told["Valid"], applied, 1 if ran.files is None else ran.files),
        _check(Check.TEST, told["Tested"], applied, ran.expectations),
        _check(Check.PLAN, told.get("Planned"), applied, 1),
        _applied(applied, told),
    ]
    return [one for one in found if one is not None]


def _check(
    check: Check, told: Mapping[str, Any] | None, applied: Mapping[str, Any], ran: int | None
) -> Report | None:
    """Return the report of a condition; None if nothing can be said."""
    if told is None:
        return None
    match told["state"]:
        case False:
            return failed(check, told["message"] or told["reason"])
        case True:
            return None if ran is None else _good(check, ran, told["message"])
        case _ if applied["state"] is False and not _waits(applied):
            return unreached(check, f"not reached: {applied['message'] or applied['reason']}")
        case _:
            return pending(check, told["message"] or "under way")


def _good(check: Check, ran: int, message: str) -> Report:
    match check:
        case Check.VALIDATE:
            return valid(ran)
        case Check.TEST:
            return tested(ran)
        case _:
            return passed(check, ran, message or "worked out", "nothing was worked out")


def _applied(applied: Mapping[str, Any], told: Mapping[str, Mapping[str, Any]]) -> Report:
    if not applied["state"]:
        stalled = told.get("Stalled", {}).get("state") is True
        words = applied["message"] or applied["reason"]
        if _waits(applied) or not stalled:
            return pending(Check.APPLIED, words)
        return failed(Check.APPLIED, f"not in force: {words}")
    delivered = told.get("Delivered")
    if delivered is None or delivered["state"] is None:
        return Report(Check.APPLIED, State.SUCCESS, "in force", 1)
    if delivered["state"]:
        return delivered_to(delivered["message"])
    # Without figures, which move all the time: GitHub takes a thousand statuses of a check.
    return pending(Check.APPLIED, "in force; not every connected device was sent it yet")


def delivered_to(message: str) -> Report:
    """Return that what is in force was delivered."""
    return Report(Check.APPLIED, State.SUCCESS, f"Delivered {message}".rstrip(), 1)


def overtaken(check: Check, newer: str) -> Report:
    """Return that another commit took the place of one that was on its way."""
    return Report(check, State.ERROR, f"overtaken by {newer[:12]}")


def _waits(applied: Mapping[str, Any]) -> bool:
    return applied["reason"] in _WAITING
