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
#: Until it is asked whether newer commits overtook it, twice as long each time: the server looks at
#: the repository then.
_ASK_S: Final = 2.0
_LONGEST_ASK_S: Final = 32.0
_ANSWER_S: Final = 180.0
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
    """Wait until COMMIT is in force, or a newer one that brings it.

    Exit code 0 once it is, 3 when it is refused, when the repository cannot be followed before
    somebody mends it, or when it is not in force (or not delivered) in time.
    """
    if not _COMMIT.fullmatch(commit):
        raise CommandFailed(
            f'"{commit}" is no commit',
            help="give 7 hex digits of its id or more",
            exit_code=ExitCode.USAGE,
        )
    status, overtaken = _waited(session, commit, time.monotonic() + timeout_s, delivered=delivered)
    if session.screen.is_json:
        session.screen.json(status)
    else:
        current = status["current"]["commit"][:12]
        brings = f", which brings {commit[:12]}," if overtaken else ""
        session.screen.done(f"{current}{brings} is in force{_counted(status) if delivered else ''}")


def _waited(
    session: Session, wanted: str, until_s: float, *, delivered: bool
) -> tuple[dict[str, Any], bool]:
    """Wait; return the status that was waited for, and whether it is that of a newer commit."""
    commit, began_s, ask_s = wanted, time.monotonic(), _ASK_S
    asks_s = began_s + ask_s
    while True:
        status = session.server.inside("GET", "gitops")
        missing = _missing(status, commit, delivered=delivered)
        if not missing:
            return status, commit is not wanted
        refused, now_s = _refused(status, commit), time.monotonic()
        if refused or now_s >= until_s:
            limit_s = max(0.0, round(until_s - began_s, 1))
            why = refused or f"{missing} after {limit_s:g} s{_why(status, commit)}"
            brought = "" if commit is wanted else f"{commit[:12]} brings {wanted[:12]}: "
            raise CommandFailed(printable(brought + why), exit_code=ExitCode.BAD_NEWS)
        if now_s >= asks_s and not _is(status["target"], commit):
            commit = _newest_with(session, commit)
            ask_s = min(2 * ask_s, _LONGEST_ASK_S)
            asks_s = time.monotonic() + ask_s
        time.sleep(min(_PAUSE_S, max(0.0, until_s - now_s)))


def _newest_with(session: Session, commit: str) -> str:
    """Return the newest commit that brings this one; the very one if the server cannot say."""
    try:
        query = {"commit": commit}
        answer = session.server.inside(
            "GET", "gitops", "contains", query=query, timeout_s=_ANSWER_S
        )
    except CommandFailed:
        return commit
    newest: str = answer["newest"]
    return commit if newest.startswith(commit) else newest


def _missing(status: dict[str, Any], commit: str, *, delivered: bool) -> str:
    """Return what is still to come, empty for nothing."""
    current = status["current"]
    if not _is(current, commit):
        held = "nothing" if current is None else current["commit"][:12]
        return f"{commit[:12]} is not in force, {held} is,"
    if delivered and not _condition(status, "Delivered")["state"]:
        return f"{commit[:12]} is in force and not delivered{_counted(status)}"
    return ""


def _refused(status: dict[str, Any], commit: str) -> str:
    """Return why this commit does not come into force by itself, empty if it may yet."""
    fetched, applied = _condition(status, "Fetched"), _condition(status, "Applied")
    if not _condition(status, "Stalled")["state"]:
        return ""
    if fetched["state"] is False:
        return f"the repository cannot be followed: {fetched['message']}"
    if not _is(status["target"], commit) or applied["state"] is not False:
        return ""
    return f"{status['target']['commit'][:12]} is refused: {applied['message']}"


def _why(status: dict[str, Any], commit: str) -> str:
    """Return what is known of why it is not in force, ready to be added."""
    fetched, applied = _condition(status, "Fetched"), _condition(status, "Applied")
    if fetched["state"] is False:
        return f": {fetched['message']}"
    if _is(status["target"], commit) and applied["state"] is False:
        return f": {applied['message']}"
    return ""


def _is(known: dict[str, Any] | None, commit: str) -> bool:
    return known is not None and known["commit"].startswith(commit)


def _counted(status: dict[str, Any]) -> str:
    return f": {_condition(status, 'Delivered')['message']}"


def _condition(status: dict[str, Any], name: str) -> dict[str, Any]:
    for one in status["conditions"]:
        if one["name"] == name:
            found: dict[str, Any] = one
            return found
    return {"name": name, "state": None, "reason": "", "message": ""}
