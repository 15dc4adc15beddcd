"""``mergescale gitops forge`` and ``gitops pulls``: what the repository's forge is told."""

from __future__ import annotations

import sys
from typing import Any, Final

import click

from mergescale.cli.errors import CommandFailed
from mergescale.cli.groups import noun
from mergescale.cli.options import Session, online
from mergescale.cli.screen import NOTHING, Cell, Tone, moment, printable

app: Final = noun("forge", "The forge that is told of commits and pull requests.")

#: LIMIT: an App's key has a few kilobytes.
_MOST_BYTES: Final = 64 << 10


@app.command("show")
@online
def show(session: Session) -> None:
    """Show which forge is told, whether there is a token for it, and why something waits."""
    found = session.server.inside("GET", "gitops", "forge")
    if session.screen.is_json:
        session.screen.json(found)
        return
    token = found["token"]
    held = f"{token['fingerprint']}, set {moment(token['created'])}" if token else "none"
    session.screen.details(
        [
            ("Forge", found["kind"]),
            ("API", printable(found["apiUrl"])),
            ("Project", printable(found["project"])),
            ("Token", held),
            ("Waiting", str(found["waiting"])),
            ("Trouble", printable(found["trouble"] or NOTHING)),
        ]
    )


@app.command("set-token")
@online
def set_token(session: Session) -> None:
    """Read from standard input what opens the forge's API, and keep it.

    A token by itself, or for a GitHub App JSON with appId, installationId and privateKey. It is
    sealed, sent to the configured address only, and never shown again.
    """
    if sys.stdin.isatty():
        session.screen.hint("paste the token, then Ctrl-D on a line of its own")
    text = sys.stdin.read(_MOST_BYTES).strip()
    answer = session.server.inside("PUT", "gitops", "forge", "token", body=_body(text))
    if session.screen.is_json:
        session.screen.json(answer)
    session.screen.done("the forge's token is set")


@app.command("drop-token")
@online
def drop_token(session: Session) -> None:
    """Forget what opens the forge's API."""
    answer = session.server.inside("DELETE", "gitops", "forge", "token")
    if session.screen.is_json:
        session.screen.json(answer)
    session.screen.done("the forge's token is dropped")


@click.command("pulls")
@online
def pulls(session: Session) -> None:
    """List the open pull requests, and what merging each of them would do."""
    found = session.server.inside("GET", "gitops", "pulls")
    if session.screen.is_json:
        session.screen.json(found)
        return
    session.screen.table(
        ("NUMBER", "HEAD", "VERDICT", "PLAN", "SINCE", "TITLE"),
        (
            (
                str(one["number"]),
                one["head"][:12],
                _verdict(one),
                (one["hash"] or NOTHING)[:12],
                moment(one["since"]),
                printable(one["title"] or NOTHING),
            )
            for one in found["pulls"]
        ),
    )


def _verdict(one: dict[str, Any]) -> Cell:
    if one["verdict"] is None:
        return Cell("under way", Tone.DIM)
    if one["stale"]:
        return Cell(f"{one['verdict']} (stale)", Tone.DIM)
    bad = one["verdict"] in {"conflict", "invalid", "tests fail", "not planned", "refused"}
    return Cell(one["verdict"], Tone.BAD if bad else Tone.GOOD)


def _body(text: str) -> dict[str, Any]:
    if not text:
        raise CommandFailed("there is nothing on standard input", help="pipe the token in")
    if not text.startswith("{"):
        return {"kind": "token", "token": text}
    import json

    try:
        found = json.loads(text)
    except ValueError:
        raise CommandFailed("what is on standard input is no JSON") from None
    if not isinstance(found, dict):
        raise CommandFailed("what is on standard input is no JSON object")
    return {"kind": "github-app", **found}
