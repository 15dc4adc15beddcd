"""What is known of an open pull request, and how the outbox keeps it for every replica."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from math import inf
from typing import Any

from mergescale.domain.letter import Letter
from mergescale.gitops.forges.port import Pull
from mergescale.gitops.status import time_json


@dataclass(frozen=True, slots=True)
class Basis:
    """What a plan is of; another one makes it stale.

    Attributes:
        head: of the pull request.
        tip: of the branch.
        in_force: the commit that is.
        inventory: devices and people.
    """

    head: str
    tip: str
    in_force: str
    inventory: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """A pull request, as far as it is known.

    Attributes:
        verdict: a word or two; empty before the first plan.
        hash: of the plan, empty without one.
        since: when this was found.
        basis: None before the first plan.
        comment: as it was said last, without the mark of staleness; empty after a restart.
        planned_s: when it was tried last, by the monotonic clock.
        failures: trials of this head in a row that did not end, for which it may be to blame.
    """

    number: int
    head: str
    title: str
    since: datetime
    verdict: str = ""
    hash: str = ""
    stale: bool = False
    basis: Basis | None = None
    comment: str = field(default="", compare=False)
    planned_s: float = field(default=-inf, compare=False)
    failures: int = field(default=0, compare=False)

    def as_json(self) -> dict[str, Any]:
        """Return it as the API spells it."""
        return {
            "number": self.number,
            "title": self.title,
            "head": self.head,
            "verdict": self.verdict or None,
            "hash": self.hash or None,
            "stale": self.stale,
            "since": time_json(self.since),
        }


def first(pull: Pull, now: datetime) -> Proposal:
    """Return what is known of a pull request that nothing was planned of."""
    title = "".join(one if one.isprintable() else " " for one in pull.title)[:200]
    return Proposal(pull.number, pull.head, title, now)


def remember(proposal: Proposal) -> Mapping[str, Any]:
    """Return what the outbox keeps."""
    basis = None if proposal.basis is None else asdict(proposal.basis)
    return {**proposal.as_json(), "open": True, "basis": basis}


def recalled(letter: Letter) -> Proposal | None:
    """Read what was remembered; None if it is closed, or no version of ours wrote it."""
    try:
        match json.loads(letter.body):
            case {
                "open": True,
                "number": int(number),
                "head": str(head),
                "title": str(title),
                "since": str(since),
                "verdict": str() | None as verdict,
                "hash": str() | None as digest,
                "stale": bool(stale),
                "basis": dict() | None as basis,
            }:
                return Proposal(
                    number, head, title, datetime.fromisoformat(since), verdict or "",
                    digest or "", stale, None if basis is None else Basis(**basis),
                )  # fmt: skip
    except (ValueError, TypeError):
        pass
    return None


def trouble(letter: Letter | None) -> str:
    """Return why the forge does not say which pull requests there are; empty if it does."""
    try:
        match json.loads("{}" if letter is None else letter.body):
            case {"trouble": str(why)}:
                return why
    except ValueError:
        pass
    return ""


def shown(letters: list[Letter]) -> list[dict[str, Any]]:
    """Return the open pull requests as the API spells them, the newest number first."""
    found = [one for letter in letters if (one := recalled(letter)) is not None]
    return [one.as_json() for one in sorted(found, key=lambda one: -one.number)]
