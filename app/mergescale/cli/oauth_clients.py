"""``mergescale oauth-clients``: programs that get tokens for a part of the API."""

from __future__ import annotations

import click

from mergescale.cli import keys
from mergescale.cli.groups import noun
from mergescale.cli.keys import description_option, ended_option, key_argument
from mergescale.cli.options import Session, online
from mergescale.cli.screen import moment, several
from mergescale.domain.scopes import Scope

app = noun("oauth-clients", "OAuth clients: for CI, which needs no administrator's token.")


@app.command("list")
@ended_option
@online
def list_clients(session: Session, *, ended: bool) -> None:
    """List the OAuth clients that still get tokens."""
    found = keys.listed(session, "client", ended=ended)
    if session.screen.is_json:
        session.screen.json(found)
        return
    titles = ("ID", "SCOPES", "STATE", "CREATED", "LAST USED", "DESCRIPTION")
    session.screen.table(
        titles,
        (
            (
                key["id"],
                several(key["scopes"]),
                keys.state(key),
                moment(key["created"]),
                moment(key.get("lastUsed")),
                key["description"],
            )
            for key in found
        ),
    )


@app.command("create")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice([str(scope) for scope in Scope]),
    help="What its tokens are for; repeatable.",
)
@description_option
@online
def create_client(session: Session, scopes: tuple[str, ...], description: str) -> None:
    """Make an OAuth client. Prints its secret alone; it is shown this once."""
    body = {"scopes": list(scopes), "description": description}
    keys.create(session, "client", body, "In CI: TS_OAUTH_ID={id} TS_OAUTH_SECRET=SECRET")


@app.command("revoke")
@key_argument
@online
def revoke_client(session: Session, key: str) -> None:
    """Let a client get no more tokens; those that it has end at once."""
    keys.revoke(session, "client", key)
