"""``mergescale apikeys``: API tokens, which let operators and programs in."""

from __future__ import annotations

from mergescale.cli import keys
from mergescale.cli.groups import noun
from mergescale.cli.keys import description_option, ended_option, expiry_option, key_argument
from mergescale.cli.options import Session, online
from mergescale.cli.screen import moment

app = noun("apikeys", "API tokens: for this command line elsewhere, and for programs.")


@app.command("list")
@ended_option
@online
def list_keys(session: Session, *, ended: bool) -> None:
    """List the API tokens that are still good."""
    found = keys.listed(session, "api", ended=ended)
    if session.screen.is_json:
        session.screen.json(found)
        return
    titles = ("ID", "STATE", "CREATED", "LAST USED", "EXPIRES", "DESCRIPTION")
    session.screen.table(
        titles,
        (
            (
                key["id"],
                keys.state(key),
                moment(key["created"]),
                moment(key.get("lastUsed")),
                keys.expires(key),
                key["description"],
            )
            for key in found
        ),
    )


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
