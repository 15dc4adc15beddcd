"""``mergescale apikeys``: API tokens, which let operators and programs in."""

from __future__ import annotations

from typing import Final

from mergescale.cli import keys
from mergescale.cli.groups import noun
from mergescale.cli.keys import description_option, ended_option, expiry_option, key_argument
from mergescale.cli.options import Session, online

app = noun("apikeys", "API tokens: for this command line elsewhere, and for programs.")

_COLUMNS: Final[keys.Columns] = {
    "ID": keys.id_of,
    "STATE": keys.state,
    "CREATED": keys.created,
    "LAST USED": keys.last_used,
    "EXPIRES": keys.expires,
    "DESCRIPTION": keys.description,
}


@app.command("list")
@ended_option
@online
def list_keys(session: Session, *, ended: bool) -> None:
    """List the API tokens that are still good."""
    keys.show(session, "api", _COLUMNS, ended=ended)


@app.command("create")
@expiry_option
@description_option
@online
def create_key(session: Session, expiry_s: int | None, description: str) -> None:
    """Make an API token. Prints the token alone; it is shown this once."""
    body = {"expirySeconds": expiry_s or 0, "description": description}
    keys.create(session, "api", body, "Elsewhere: MERGESCALE_SERVER=URL MERGESCALE_TOKEN=TOKEN")


@app.command("revoke")
@key_argument
@online
def revoke_key(session: Session, key: str) -> None:
    """Let a token open nothing any more."""
    keys.revoke(session, "api", key)
