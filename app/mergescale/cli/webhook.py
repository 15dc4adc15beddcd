"""``mergescale gitops webhook``: where forges say that something was pushed, and with what secret."""

from __future__ import annotations

from typing import Final

import click

from mergescale.cli.groups import noun
from mergescale.cli.options import Session, online
from mergescale.cli.screen import moment, printable

app: Final = noun("webhook", "The webhook that has the repository looked at as soon as it moves.")


@app.command("add")
@online
def add(session: Session) -> None:
    """Make a secret, and print the webhook's address and the secret, each on a line.

    The secret is shown this once. Those that there are stay good, so that one can be exchanged
    without missing a push: add, change it at the forge, drop the old one.
    """
    made = session.server.inside("POST", "gitops", "webhooks")
    if session.screen.is_json:
        session.screen.json(made)
        return
    session.screen.line(printable(made["url"]))
    session.screen.line(printable(made["secret"]))
    session.screen.hint(
        f"The secret {made['id']} is shown this once. At the forge: content type JSON, on every"
        " push and pull request; at GitLab it is the signing token."
    )


@app.command("list")
@online
def show(session: Session) -> None:
    """Show the address, and which secrets are good."""
    found = session.server.inside("GET", "gitops", "webhooks")
    if session.screen.is_json:
        session.screen.json(found)
        return
    session.screen.details([("URL", printable(found["url"]))])
    session.screen.line("")
    session.screen.table(
        ("SECRET", "CREATED", "FINGERPRINT"),
        ((one["id"], moment(one["created"]), one["fingerprint"]) for one in found["secrets"]),
    )


@app.command("drop")
@click.argument("secret", metavar="SECRET")
@online
def drop(session: Session, secret: str) -> None:
    """Forget a secret, by the id that `list` shows."""
    answer = session.server.inside("DELETE", "gitops", "webhooks", secret)
    if session.screen.is_json:
        session.screen.json(answer)
    session.screen.done(f"dropped {secret}")
