"""``mergescale gitops notify``: who is told when something about the repository changes."""

from __future__ import annotations

import sys
from typing import Any, Final

import click

from mergescale.cli.groups import noun
from mergescale.cli.options import Session, online
from mergescale.cli.screen import NOTHING, moment, printable

app: Final = noun("notify", "Channels that are told when something about following changes.")
#: LIMIT: seconds; a mail server may take its time.
_TEST_S: Final = 75.0


@app.command("list")
@online
def show(session: Session) -> None:
    """List the configured channels, and since when each has its secret."""
    found = session.server.inside("GET", "gitops", "notify")
    if session.screen.is_json:
        session.screen.json(found)
        return
    session.screen.table(
        ("CHANNEL", "KIND", "TO", "EVENTS", "SECRET SINCE"),
        (
            (
                one["name"],
                one["kind"],
                printable(one["place"]),
                ", ".join(one["events"]) or "all",
                moment(one["secretSince"]) if one["secretSince"] else NOTHING,
            )
            for one in found["channels"]
        ),
    )


@app.command("test")
@click.argument("channel")
@online
def test(session: Session, channel: str) -> None:
    """Send a test to CHANNEL now, and say whether it was taken."""
    done = session.server.inside("POST", "gitops", "notify", channel, "test", timeout_s=_TEST_S)
    if session.screen.is_json:
        session.screen.json(done)
    session.screen.done(f"{channel} took it")


@app.command("secret")
@click.argument("channel")
@click.option("--stdin", "given", is_flag=True, help="Take it from standard input, one line.")
@online
def secret(session: Session, channel: str, *, given: bool) -> None:
    """Make the secret that a webhook is signed with, and print it, this once.

    With --stdin keep one: the URL of a Slack channel, the password of a mail server.
    """
    body: dict[str, Any] = {"secret": sys.stdin.readline().strip()} if given else {}
    made = session.server.inside("POST", "gitops", "notify", channel, "secret", body=body)
    if session.screen.is_json:
        session.screen.json(made)
        return
    if made["secret"] is not None:
        session.screen.line(printable(made["secret"]))
        session.screen.hint(
            "Shown this once: the receiver checks Tailscale-Webhook-Signature by it."
        )
    else:
        session.screen.done(f"{channel} has its secret")
