"""``mergescale users``: people."""

from __future__ import annotations

from typing import Any, Final

import click

from mergescale.cli.errors import CommandFailed
from mergescale.cli.groups import noun
from mergescale.cli.options import Session, online, yes_option
from mergescale.cli.questions import confirm
from mergescale.cli.screen import Cell, Tone, moment, yes
from mergescale.domain.user import Role

app = noun("users", "People who own nodes. Those of users.hujson come with their commit.")

_user_argument: Final = click.argument("user")
_ROLES: Final = click.Choice([str(role) for role in Role])


@app.command("list")
@online
def list_users(session: Session) -> None:
    """List the users."""
    users = session.server.inside("GET", "users")["users"]
    if session.screen.is_json:
        session.screen.json(users)
        return
    titles = ("ID", "LOGIN", "NAME", "ROLE", "STATE", "NODES", "DECLARED", "LAST SEEN")
    session.screen.table(
        titles,
        (
            (
                user["id"],
                user["loginName"],
                user["displayName"],
                user["role"],
                _state(user),
                str(user["deviceCount"]),
                yes(user["declared"]),
                "now" if user["currentlyConnected"] else moment(user["lastSeen"]),
            )
            for user in users
        ),
    )


@app.command("create")
@click.argument("login")
@click.option("--name", default="", metavar="TEXT", help="As shown to others.")
@click.option("--role", type=_ROLES, default="member", help="What they may do [member].")
@online
def create_user(session: Session, login: str, name: str, role: str) -> None:
    """Make somebody known, whom users.hujson does not name."""
    body = {"loginName": login, "displayName": name, "role": role}
    made = session.server.inside("POST", "users", body=body)
    if session.screen.is_json:
        session.screen.json(made)
    session.screen.done(f"created {made['loginName']}")


@app.command("suspend")
@_user_argument
@online
def suspend_user(session: Session, user: str) -> None:
    """Let the nodes of somebody neither see nor reach anybody."""
    found = _find(session, user)
    session.server.call("POST", "users", found["id"], "suspend")
    _changed(session, found, f"{found['loginName']} is suspended")


@app.command("restore")
@_user_argument
@online
def restore_user(session: Session, user: str) -> None:
    """Undo a suspension."""
    found = _find(session, user)
    session.server.call("POST", "users", found["id"], "restore")
    _changed(session, found, f"{found['loginName']} is active again")


@app.command("role")
@_user_argument
@click.argument("role", type=_ROLES)
@online
def set_role(session: Session, user: str, role: str) -> None:
    """Give somebody another role."""
    found = _find(session, user)
    session.server.call("POST", "users", found["id"], "role", body={"role": role})
    _changed(session, found, f"{found['loginName']} has the role {role}")


@app.command("delete")
@_user_argument
@yes_option
@online
def delete_user(session: Session, user: str, *, yes: bool) -> None:
    """Remove somebody who has no nodes."""
    found = _find(session, user)
    confirm(f"Delete {found['loginName']}?", yes=yes)
    session.server.call("POST", "users", found["id"], "delete")
    if session.screen.is_json:
        session.screen.json(found)
    session.screen.done(f"deleted {found['loginName']}")


def _find(session: Session, text: str) -> dict[str, Any]:
    """Return the user with this login or id."""
    wanted = text.lower()
    for user in session.server.inside("GET", "users")["users"]:
        if wanted in {user["id"], user["loginName"].lower()}:
            found: dict[str, Any] = user
            return found
    raise CommandFailed(f'no user "{text}"', help="`mergescale users list` shows who there is")


def _state(user: dict[str, Any]) -> Cell:
    active = user["status"] == "active"
    return Cell(user["status"], Tone.PLAIN if active else Tone.BAD)


def _changed(session: Session, user: dict[str, Any], told: str) -> None:
    """Say what was done; a program gets the user as it is now."""
    if session.screen.is_json:
        session.screen.json(session.server.call("GET", "users", user["id"]))
    session.screen.done(told)
