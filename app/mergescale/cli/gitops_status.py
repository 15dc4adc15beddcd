"""How ``mergescale gitops`` shows the status of the watched repository."""

from __future__ import annotations

from typing import Any, Final

import click

from mergescale.cli.errors import ExitCode
from mergescale.cli.gitops_override import until
from mergescale.cli.options import Session
from mergescale.cli.screen import NOTHING, Cell, Tone, moment, printable, printable_lines

#: Conditions that are bad news when they are true.
_BAD: Final = frozenset({"Stalled", "Suspended", "Drifted"})
#: The one that is false for a moment after every commit, and for as long as one client is slow.
_UNDER_WAY: Final = "Delivered"
#: Reasons for which a commit waits that an approval ends.
_APPROVABLE: Final = frozenset({"GateRefused", "Frozen"})


def show(session: Session, status: dict[str, Any]) -> None:
    """Print the status; ends with exit code 3 if something is wrong."""
    if session.screen.is_json:
        session.screen.json(status)
    else:
        _print(session, status)
    if any(_is_bad(condition) for condition in status["conditions"]):
        click.get_current_context().exit(ExitCode.BAD_NEWS)


def named(commit: dict[str, Any] | None) -> str:
    """Return a commit as people know it: the start of its id, its subject and its author."""
    if commit is None:
        return NOTHING
    return printable(f'{commit["commit"][:12]} "{commit["subject"]}" by {commit["author"]}')


def _print(session: Session, status: dict[str, Any]) -> None:
    screen, applied = session.screen, moment(status["applied"])
    override = status["override"]
    if override is not None:
        by, why = printable(override["by"]), printable(override["reason"])
        screen.line(f"OVERRIDDEN by {by}{until(override)}: {why}")
    where = ", ".join(
        part
        for part in (
            status["repository"],
            f"{status.get('follows', 'branch')} {status['branch']}",
            f"folder {status['folder']}" if status["folder"] else "",
        )
        if part
    )
    in_force = named(status["current"])
    screen.details(
        [
            ("Repository", where),
            ("In force", f"{in_force}, since {applied}" if status["current"] else "nothing yet"),
            *_verified(status),
            ("Newest", NOTHING if _is_newest(status) else named(status["target"])),
            ("Looked at", moment(status["lastAttempt"]) + _by_whom(status)),
            ("Webhook", _received(status.get("webhook", {}))),
            *(("Approved", _approved(one)) for one in status["approvals"]),
        ]
    )
    screen.line("")
    screen.table(
        ("CONDITION", "STATE", "SINCE", "REASON", "MESSAGE"),
        (
            (
                condition["name"],
                _state(condition),
                moment(condition["since"]),
                condition["reason"],
                condition["message"],
            )
            for condition in status["conditions"]
        ),
    )
    for problem in status["problems"]:
        screen.line(f"\n{printable_lines(problem['rendered'])}")
    if any(one["reason"] in _APPROVABLE for one in status["conditions"]):
        commit = status["target"]["commit"][:12] if status["target"] else "COMMIT"
        screen.hint(f"to let it pass all the same: mergescale gitops approve {commit} --reason …")


def _approved(one: dict[str, Any]) -> str:
    """Return which commit somebody let pass, who, and why."""
    bound = ", as planned" if one["bound"] else ""
    return printable(
        f"{one['commit'][:12]}{bound}, by {one['by']} at {moment(one['at'])}: {one['reason']}"
    )


def _by_whom(status: dict[str, Any]) -> str:
    return "" if status["followedHere"] else ", by another server process"


def _received(webhook: dict[str, Any]) -> str:
    last = webhook.get("lastReceived")
    return f"last received {moment(last)}" if last else "nothing received yet"


def _verified(status: dict[str, Any]) -> list[tuple[str, str]]:
    """Return who signed the newest commit that was looked at, if signatures are asked for."""
    by = status["verifiedBy"]
    return [("Verified by", printable(", ".join(by)))] if by else []


def _is_newest(status: dict[str, Any]) -> bool:
    current, target = status["current"], status["target"]
    return target is None or (current is not None and current["commit"] == target["commit"])


def _is_bad(condition: dict[str, Any]) -> bool:
    """Say whether a condition is bad news; not known yet is none, nor what is under way."""
    return condition["name"] != _UNDER_WAY and condition["state"] is (condition["name"] in _BAD)


def _state(condition: dict[str, Any]) -> Cell:
    if condition["state"] is None:
        return Cell("unknown", Tone.DIM)
    word = "true" if condition["state"] else "false"
    return Cell(word, Tone.BAD if _is_bad(condition) else Tone.GOOD)
