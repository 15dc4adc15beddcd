"""``mergescale gitops``: the watched repository."""

from __future__ import annotations

from typing import Any, Final

import click

from mergescale.cli.errors import ExitCode
from mergescale.cli.groups import noun
from mergescale.cli.options import Session, online
from mergescale.cli.screen import NOTHING, Cell, Tone, moment, printable, printable_lines

app = noun("gitops", "The watched repository: which commit is in force, and what is wrong.")

#: LIMIT: seconds; a first fetch of a large history takes the server this long.
_SYNC_S: Final = 180.0
_STALLED: Final = "Stalled"


@app.command("status")
@online
def show_status(session: Session) -> None:
    """Show the commit in force, the newest one, and what is wrong with it.

    Exit code 0 if all is well, 3 if the newest commit is not in force or the repository cannot be
    followed.
    """
    _show(session, session.server.inside("GET", "gitops"))


@app.command("sync")
@online
def sync(session: Session) -> None:
    """Look at the repository now, and judge its newest commit again.

    Exit code 0 if that commit is in force, 3 if not.
    """
    if session.screen.terminal:
        session.screen.hint("► looking at the repository")
    _show(session, session.server.inside("POST", "gitops", "sync", timeout_s=_SYNC_S))


def _show(session: Session, status: dict[str, Any]) -> None:
    if session.screen.is_json:
        session.screen.json(status)
    else:
        _print(session, status)
    if any(_is_bad(condition) for condition in status["conditions"]):
        click.get_current_context().exit(ExitCode.BAD_NEWS)


def _print(session: Session, status: dict[str, Any]) -> None:
    screen, applied = session.screen, moment(status["applied"])
    where = ", ".join(
        part
        for part in (
            status["repository"],
            f"branch {status['branch']}",
            f"folder {status['folder']}" if status["folder"] else "",
        )
        if part
    )
    in_force = _commit(status["current"])
    screen.details(
        [
            ("Repository", where),
            ("In force", f"{in_force}, since {applied}" if status["current"] else "nothing yet"),
            ("Newest", NOTHING if _is_newest(status) else _commit(status["target"])),
            ("Looked at", moment(status["lastAttempt"]) + _by_whom(status)),
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


def _by_whom(status: dict[str, Any]) -> str:
    return "" if status["followedHere"] else ", by another server process"


def _is_newest(status: dict[str, Any]) -> bool:
    current, target = status["current"], status["target"]
    return target is None or (current is not None and current["commit"] == target["commit"])


def _commit(commit: dict[str, Any] | None) -> str:
    if commit is None:
        return NOTHING
    return printable(f'{commit["commit"][:12]} "{commit["subject"]}" by {commit["author"]}')


def _is_bad(condition: dict[str, Any]) -> bool:
    """Say whether a condition is bad news; not known yet is none."""
    return condition["state"] is (condition["name"] == _STALLED)


def _state(condition: dict[str, Any]) -> Cell:
    if condition["state"] is None:
        return Cell("unknown", Tone.DIM)
    word = "true" if condition["state"] else "false"
    return Cell(word, Tone.BAD if _is_bad(condition) else Tone.GOOD)
