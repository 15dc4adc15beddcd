"""``mergescale gitops wait``: until a commit is in force and has come to the devices, for CI."""

from __future__ import annotations

import re
import time
from typing import Any, Final

import click

from mergescale.cli.errors import CommandFailed, ExitCode
from mergescale.cli.options import Session, online
from mergescale.cli.screen import printable

#: Between two looks at the status.
_PAUSE_S: Final = 0.5
_COMMIT: Final = re.compile("[0-9a-f]{7,64}")


@click.command("wait")
@click.argument("commit")
@click.option("--delivered", is_flag=True, help="Wait until every connected device has it as well.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait.",
)
@online
def wait(session: Session, commit: str, timeout_s: float, *, delivered: bool) -> None:
    """Wait until COMMIT is in force.

    Exit code 0 once it is, 3 when it is refused, or is not in force (or not delivered) in time.
    """
    if not _COMMIT.fullmatch(commit):
        raise CommandFailed(
            f'"{commit}" is no commit',
            help="give 7 hex digits of its id or more",
            exit_code=ExitCode.USAGE,
        )
    until_s = time.monotonic() + timeout_s
    while True:
        status = session.server.inside("GET", "gitops")
        missing = _missing(status, commit, delivered=delivered)
        if not missing:
            break
        refused = _refused(status, commit)
        if refused or time.monotonic() >= until_s:
            why = refused or f"{missing} after {timeout_s:g} s"
            raise CommandFailed(printable(why), exit_code=ExitCode.BAD_NEWS)
        time.sleep(min(_PAUSE_S, max(0.0, until_s - time.monotonic())))
    if session.screen.is_json:
        session.screen.json(status)
    else:
        current = status["current"]["commit"][:12]
        session.screen.done(f"{current} is in force{_counted(status) if delivered else ''}")


def _missing(status: dict[str, Any], commit: str, *, delivered: bool) -> str:
    """Return what is still to come, empty for nothing."""
    current = status["current"]
    if current is None or not current["commit"].startswith(commit):
        held = "nothing" if current is None else current["commit"][:12]
        return f"{commit[:12]} is not in force, {held} is,"
    if delivered and not _condition(status, "Delivered")["state"]:
        return f"{commit[:12]} is in force and not delivered{_counted(status)}"
    return ""


def _refused(status: dict[str, Any], commit: str) -> str:
    """Return why this commit does not come into force by itself, empty if it may yet."""
    target, applied = status["target"], _condition(status, "Applied")
    if target is None or not target["commit"].startswith(commit) or applied["state"] is not False:
        return ""
    if not _condition(status, "Stalled")["state"]:
        return ""
    return f"{target['commit'][:12]} is refused: {applied['message']}"


def _counted(status: dict[str, Any]) -> str:
    return f": {_condition(status, 'Delivered')['message']}"


def _condition(status: dict[str, Any], name: str) -> dict[str, Any]:
    for one in status["conditions"]:
        if one["name"] == name:
            found: dict[str, Any] = one
            return found
    return {"name": name, "state": None, "reason": "", "message": ""}
