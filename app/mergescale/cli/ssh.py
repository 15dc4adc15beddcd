"""``mergescale ssh``: logins over SSH that wait to be approved."""

from __future__ import annotations

from typing import Any, Final

import click

from mergescale.cli.groups import noun
from mergescale.cli.options import Session, online
from mergescale.cli.screen import moment

app = noun("ssh", "Logins over SSH that the policy lets in after a check only.")

#: The id, or the whole address, that the user was shown.
_check_argument: Final = click.argument("check", metavar="ID")


@app.command("list")
@online
def list_checks(session: Session) -> None:
    """List the logins over SSH that wait."""
    checks = session.server.inside("GET", "ssh-checks")["checks"]
    if session.screen.is_json:
        session.screen.json(checks)
        return
    titles = ("ID", "WHO", "FROM", "TO", "AS", "SINCE", "UNTIL")
    session.screen.table(
        titles,
        (
            (
                check["id"],
                check["user"],
                check["source"],
                check["target"],
                check["localUser"],
                moment(check["created"]),
                moment(check["expires"]),
            )
            for check in checks
        ),
    )


@app.command("approve")
@_check_argument
@online
def approve(session: Session, check: str) -> None:
    """Let somebody in, for as long as the policy's checkPeriod says."""
    _decide(session, check, "approve", "may log in")


@app.command("reject")
@_check_argument
@online
def reject(session: Session, check: str) -> None:
    """Turn somebody away."""
    _decide(session, check, "reject", "was turned away")


def _decide(session: Session, check: str, verb: str, done: str) -> None:
    found: dict[str, Any] = session.server.call("POST", "ssh-checks", _id(check), verb)
    if session.screen.is_json:
        session.screen.json(found)
    who, where = found["user"] or "somebody", found["target"] or "a device that is gone"
    session.screen.done(f"{who} {done} as {found['localUser']} at {where}")


def _id(text: str) -> str:
    """Return the id in what a user is shown: an address that ends in it."""
    return text.rstrip("/").rpartition("/")[2]
