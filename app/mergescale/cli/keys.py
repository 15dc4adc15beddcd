"""What ``authkeys``, ``apikeys`` and ``oauth-clients`` share: the API has one resource for all."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import click

from mergescale.cli.errors import CommandFailed
from mergescale.cli.options import Session
from mergescale.cli.questions import span_s
from mergescale.cli.screen import Cell, Tone, moment

Kind = Literal["auth", "api", "client"]
#: As the API shows it.
Key = dict[str, Any]
#: Title -> what stands below it.
Columns = Mapping[str, Callable[[Key], Cell | str]]


class Span(click.ParamType[int]):
    """A span of time, as seconds."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read ``90d``; click calls this."""
        try:
            return span_s(str(value))
        except ValueError as error:
            return self.fail(str(error), param, ctx)


ended_option: Final = click.option(
    "--all", "ended", is_flag=True, help="Also those that expired or were revoked of late."
)
expiry_option: Final = click.option(
    "--expiry",
    "expiry_s",
    type=Span(),
    help="As in 30d or 12h; 90d if nothing is said.",
)
description_option: Final = click.option(
    "--description", default="", metavar="TEXT", help="What it is for."
)
#: Its id, or its text.
key_argument: Final = click.argument("key")

_TEXT: Final = re.compile(r"mskey-(?:auth|api|client)-([A-Za-z0-9]+)(?:-.*)?")
_NAMES: Final = {"auth": "a pre-auth key", "api": "an API token", "client": "an OAuth client"}
_COMMANDS: Final = {"auth": "authkeys", "api": "apikeys", "client": "oauth-clients"}


def show(session: Session, kind: Kind, columns: Columns, *, ended: bool) -> None:
    """List the keys of a kind, oldest first."""
    query = {"keyType": kind, **({"all": "true"} if ended else {})}
    found: list[Key] = session.server.inside("GET", "keys", query=query)["keys"]
    if session.screen.is_json:
        session.screen.json(found)
        return
    session.screen.table(
        tuple(columns), (tuple(cell(key) for cell in columns.values()) for key in found)
    )


def create(session: Session, kind: Kind, body: dict[str, Any], hint: str) -> None:
    """Make a key and print it alone, so that a script can capture it.

    Args:
        session: of the command.
        kind: what is made.
        body: the rest of the request.
        hint: what to do with it, for the person; ``{id}`` is its id.
    """
    made = session.server.inside("POST", "keys", body={"keyType": kind, **body})
    if session.screen.is_json:
        session.screen.json(made)
        return
    session.screen.line(made["key"])
    session.screen.hint(f"Shown this once; expires {expires(made)}. {hint.format(id=made['id'])}")


def revoke(session: Session, kind: Kind, text: str) -> None:
    """Revoke a key of this kind; never sends its secret."""
    found = _TEXT.fullmatch(text.strip())
    key_id = found[1] if found else text.strip()
    key = session.server.inside("GET", "keys", key_id)
    if key["keyType"] != kind:
        raise CommandFailed(
            f"{key_id} is {_NAMES[key['keyType']]}",
            help=f"`mergescale {_COMMANDS[key['keyType']]} revoke {key_id}` revokes it",
        )
    session.server.inside("DELETE", "keys", key_id)
    if session.screen.is_json:
        session.screen.json(key)
    session.screen.done(f"revoked {key_id}")


def state(key: Key) -> Cell:
    """Return whether a key still opens something."""
    if "revoked" in key:
        return Cell("revoked", Tone.BAD)
    return Cell("ended", Tone.DIM) if key["invalid"] else Cell("good", Tone.GOOD)


def expires(key: Key) -> str:
    """Return when a key ends."""
    return moment(key["expires"]) if "expires" in key else "never"


def created(key: Key) -> str:
    """Return when a key was made."""
    return moment(key["created"])


def last_used(key: Key) -> str:
    """Return when a key last opened something."""
    return moment(key.get("lastUsed"))


def description(key: Key) -> str:
    """Return what a key is for, as whoever made it said."""
    return str(key["description"])


def id_of(key: Key) -> str:
    """Return the id of a key."""
    return str(key["id"])
