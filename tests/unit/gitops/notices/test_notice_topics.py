"""Which state a topic is in, read off statuses written down by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from mergescale.gitops.notices.events import State
from mergescale.gitops.notices.teller import Teller
from mergescale.gitops.notices.topics import Seen, topics
from mergescale.gitops.status import fresh
from mergescale.state.ports import Fence
from support.clock import START

SINCE = "2026-01-01T00:00:00Z"
TARGET = {"commit": "b" * 40, "subject": "open it", "author": "Ana"}


def status(**conditions: tuple[bool | None, str, str]) -> dict[str, Any]:
    """Return a status with these conditions (state, reason, message), by lower-case name."""
    told = [
        {
            "name": name.capitalize(),
            "state": state,
            "reason": reason,
            "message": text,
            "since": SINCE,
        }
        for name, (state, reason, text) in conditions.items()
    ]
    return {"repository": "https://git.example.com/policy", "target": TARGET, "conditions": told}


def states(said: dict[str, Any]) -> dict[str, State]:
    return dict(topics(Seen(said, None, "", START)))


@pytest.mark.parametrize(
    ("conditions", "told"),
    [
        (
            {
                "planned": (False, "GateRefused", "80 % of pairs"),
                "stalled": (True, "GateRefused", "80 %"),
            },
            ("gitopsGateRefused", "bbbbbbbbbbbb by Ana is stopped by a gate: 80 %"),
        ),
        (
            {
                "verified": (False, "Unsigned", "x"),
                "stalled": (True, "Unsigned", "it is not signed"),
            },
            ("gitopsCommitRefused", "bbbbbbbbbbbb by Ana is refused: it is not signed"),
        ),
        (
            {"stalled": (True, "HistoryRewritten", "no longer contains a")},
            (
                "gitopsHistoryRewritten",
                "bbbbbbbbbbbb by Ana rewrites the history: no longer contains a",
            ),
        ),
    ],
)
def test_a_refused_commit_is_one_notification(
    conditions: dict[str, Any], told: tuple[str, str]
) -> None:
    """With the drift that follows from it, by whatever stage refused it."""
    found = states(status(**conditions, drifted=(True, "NotApplied", "a is in force")))
    assert list(found) == ["branch", "override"]
    assert found["override"].quiet
    assert (found["branch"].event, found["branch"].message) == told
    assert found["branch"].data["commit"] == "b" * 40


def test_an_override_is_told_as_one() -> None:
    """Not as drift; and that it ended, however it did."""
    found = states(status(drifted=(True, "Overridden", "a policy of ana is in force")))
    assert [(key, state.event) for key, state in found.items()] == [
        ("override", "gitopsOverrideBegan")
    ]
    found = states(status(drifted=(False, "InStep", "")))
    assert [(key, state.event, state.quiet) for key, state in found.items()] == [
        ("drift", "gitopsDriftEnded", True),
        ("override", "gitopsOverrideEnded", True),
    ]


def test_what_is_not_known_changes_nothing() -> None:
    """Before the first look, at a replica that stands by, in an older server's status."""
    unknown = (None, "NotYet", "")
    names = ("fetched", "valid", "tested", "applied", "stalled", "suspended", "drifted")
    assert states(status(**dict.fromkeys(names, unknown))) == {}
    assert states(status()) == {}


def test_frozen_or_suspended_is_neither_refused_nor_good() -> None:
    """Somebody wants it so."""
    held = {"applied": (False, "Frozen", ""), "stalled": (False, "Frozen", "until Monday")}
    assert "branch" not in states(status(**held))


class Heard:
    """An outbox that only remembers what is said."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def say(
        self,
        channel: str,
        key: str,
        body: Mapping[str, Any],
        *,
        final: bool = True,
        quiet: bool = False,
    ) -> None:
        self.keys.append(key)


def test_a_state_is_said_again_with_every_new_right_to_follow() -> None:
    """Another replica may have said something else meanwhile; else an equal one is not even said."""
    heard, term = Heard(), [Fence("duties", 1)]
    seen = Seen(status(suspended=(True, "Suspended", "by ana: x")), None, "", START)
    teller = Teller(heard, ["ops"], lambda _: seen, lambda: term[-1])
    quiet = fresh("", "main", "", START)
    for _ in range(3):
        teller.heard(quiet, quiet)
    assert heard.keys == ["hold"]
    term.append(Fence("duties", 3))
    teller.heard(quiet, quiet)
    assert heard.keys == ["hold", "hold"]


def test_what_others_wrote_is_one_short_line() -> None:
    """An author of a commit may be called anything."""
    said = status(stalled=(True, "Refused", "x" * 5000))
    said["target"] = {**TARGET, "author": "Ana\r\nBcc: eve\x1b[31m\u202e"}
    message = states(said)["branch"].message
    assert message.isprintable()
    assert len(message) == 400
