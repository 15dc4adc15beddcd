"""``mergescale inventory``: users and devices as a file, to ask a policy about offline."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mergescale.cli.devices import as_inventory
from mergescale.cli.errors import CommandFailed
from mergescale.cli.groups import noun
from mergescale.cli.options import Session, online
from mergescale.cli.policy_files import count

app = noun("inventory", "Users and devices as a file, to ask a policy about without the server.")


@app.command("export")
@click.option("--out", metavar="FILE", help="Write to this file; else to standard output.")
@online
def export(session: Session, out: str | None) -> None:
    """Write the users, devices and routes of a server as JSON.

    What --inventory of the policy commands reads. It has names, addresses and routes, no keys.
    """
    inventory = as_inventory(session.server)
    if out is None:
        session.screen.json(inventory)
        return
    try:
        Path(out).write_text(json.dumps(inventory, indent=2) + "\n", "ascii")
    except OSError as error:
        raise CommandFailed(f'"{out}" cannot be written: {error.strerror}') from error
    nodes, users = count(len(inventory["nodes"]), "node"), count(len(inventory["users"]), "user")
    session.screen.done(f"{out}: {nodes}, {users}")
