"""``mergescale oauth-clients``: programs that get tokens for a part of the API."""

from __future__ import annotations

from typing import Final

import click

from mergescale.cli import keys
from mergescale.cli.groups import noun
from mergescale.cli.keys import description_option, ended_option, key_argument
from mergescale.cli.options import Session, online
from mergescale.cli.screen import several
from mergescale.domain.scopes import Scope

app = noun("oauth-clients", "OAuth clients: for CI, which needs no administrator's token.")

_COLUMNS: Final[keys.Columns] = {
    "ID": keys.id_of,
    "SCOPES": lambda key: several(key["scopes"]),
    "STATE": keys.state,
    "CREATED": keys.created,
    "LAST USED": keys.last_used,
    "DESCRIPTION": keys.description,
}


@app.command("list")
@ended_option
@online
def list_clients(session: Session, *, ended: bool) -> None:
    """List the OAuth clients that still get tokens."""
    keys.show(session, "client", _COLUMNS, ended=ended)


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
