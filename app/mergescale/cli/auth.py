"""``mergescale auth``: devices that wait to be let in."""

from __future__ import annotations

from typing import Final

import click

from mergescale.cli.groups import noun
from mergescale.cli.node import label, owner
from mergescale.cli.options import Session, online
from mergescale.cli.screen import moment, several

app = noun("auth", "Devices that ask to join without a key, and wait for somebody.")

#: The id, or the whole address, that the device shows.
_login_argument: Final = click.argument("login", metavar="ID")


@app.command("list")
@online
def list_logins(session: Session) -> None:
    """List the devices that wait. Compare the fingerprint with the one on the device's page."""
    logins = session.server.inside("GET", "logins")["logins"]
    if session.screen.is_json:
        session.screen.json(logins)
        return
    titles = ("ID", "HOST NAME", "SYSTEM", "FINGERPRINT", "ASKS FOR", "SINCE", "UNTIL")
    session.screen.table(
        titles,
        (
            (
                login["id"],
                login["hostname"],
                login["os"],
                login["fingerprint"],
                several(login["requestedTags"]),
                moment(login["created"]),
                moment(login["expires"]),
            )
            for login in logins
        ),
    )


@app.command("approve")
@_login_argument
@click.option("--user", metavar="LOGIN", help="Owns the device.")
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="Owns it instead; repeatable.")
@online
def approve(session: Session, login: str, user: str | None, tags: tuple[str, ...]) -> None:
    """Let a device in, for a user or for tags."""
    if not user and not tags:
        raise click.UsageError("say who owns the device: --user LOGIN or --tag tag:NAME")
    body = {"user": user, "tags": list(tags)}
    node = session.server.call("POST", "logins", _id(login), "approve", body=body)
    if session.screen.is_json:
        session.screen.json(node)
    addresses = several(node["addresses"])
    session.screen.done(f"{label(node)} is in, owned by {owner(node)} ({addresses})")


@app.command("reject")
@_login_argument
@online
def reject(session: Session, login: str) -> None:
    """Turn a device away."""
    rejected = session.server.call("POST", "logins", _id(login), "reject")
    if session.screen.is_json:
        session.screen.json(rejected)
    session.screen.done(f"{rejected['hostname'] or 'the device'} was turned away")


def _id(text: str) -> str:
    """Return the id in what a device shows: an address that ends in it."""
    return text.rstrip("/").rpartition("/")[2]
