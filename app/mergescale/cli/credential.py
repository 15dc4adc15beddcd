"""``mergescale gitops credential``: what opens the watched repository. Secrets come from a file."""

from __future__ import annotations

import sys
from typing import Any, Final, TextIO

import click

from mergescale.cli.errors import CommandFailed
from mergescale.cli.groups import noun
from mergescale.cli.options import Session, online, yes_option
from mergescale.cli.questions import confirm
from mergescale.cli.screen import moment, printable

app = noun("credential", "What opens the watched repository; goes in and never comes out.")

#: LIMIT: characters; as the server takes.
_LONGEST: Final = 32 << 10
_NAMES: Final = {"token": "a token", "github-app": "a GitHub App", "ssh": "a deploy key"}
_known_hosts: Final = click.option(
    "--known-hosts",
    type=click.File("r"),
    metavar="FILE",
    help="Lines of known_hosts: the only keys of the ssh host that are believed.",
)


@app.command("show")
@online
def show_credential(session: Session) -> None:
    """Say which credential there is, for which address and since when; not what it is."""
    _show(session, session.server.inside("GET", "gitops", "credential"))


@app.command("set")
@click.option("--kind", required=True, type=click.Choice(list(_NAMES)))
@click.option(
    "--secret-file",
    type=click.File("r"),
    default="-",
    metavar="FILE",
    help="Holds the token or private key; - for standard input, which is the default.",
)
@click.option("--user", help="User name that goes with a token; many forges take any.")
@click.option("--app-id", type=int, help="Of the GitHub App.")
@click.option("--installation-id", type=int, help="Of the GitHub App, where the repository is.")
@_known_hosts
@online
def set_credential(
    session: Session,
    *,
    kind: str,
    secret_file: TextIO,
    user: str | None,
    app_id: int | None,
    installation_id: int | None,
    known_hosts: TextIO | None,
) -> None:
    """Set what opens the repository, in the place of what did; the next look uses it.

    A private key must have no passphrase. It is for the repository's present address, and forgotten
    when the configuration names another one.
    """
    given = {
        "user": user,
        "appId": app_id,
        "installationId": installation_id,
        "knownHosts": _read(known_hosts) if known_hosts is not None else None,
        "token" if kind == "token" else "privateKey": _secret(secret_file, kind),
    }
    body = {"kind": kind, **{name: value for name, value in given.items() if value is not None}}
    _show(session, session.server.inside("PUT", "gitops", "credential", body=body))
    _done(session, "the credential is set; mergescale gitops sync looks at once")


@app.command("generate")
@_known_hosts
@yes_option
@online
def generate_key(session: Session, *, known_hosts: TextIO | None, yes: bool) -> None:
    """Make a deploy key in the place of the credential there is; prints its public half.

    The private half never leaves the server. Without --known-hosts the host keys of the deploy key
    that there is go on to be believed.
    """
    confirm("Replace what opens the repository by a new deploy key?", yes=yes)
    body = {} if known_hosts is None else {"knownHosts": _read(known_hosts)}
    about = session.server.inside("POST", "gitops", "credential", "deploy-key", body=body)
    if session.screen.is_json:
        session.screen.json(about)
        return
    session.screen.line(printable(about["publicKey"]))
    _done(session, "let the forge accept this key for reading the repository")


@app.command("drop")
@yes_option
@online
def drop_credential(session: Session, *, yes: bool) -> None:
    """Forget what opens the repository; what is in force stays."""
    confirm("Forget the credential of the repository?", yes=yes)
    session.server.inside("DELETE", "gitops", "credential")
    _done(session, "the credential is dropped")


def _secret(file: TextIO, kind: str) -> str:
    """Read what must not be in an argument; ask for it where somebody sits."""
    if file is sys.stdin and sys.stdin.isatty():
        if kind == "token":
            return str(click.prompt("Token", hide_input=True, err=True))
        click.echo("Paste the private key, then end the input (Ctrl-D).", err=True)
    return _read(file)


def _read(file: TextIO) -> str:
    try:
        text = file.read(_LONGEST + 1)
    except (OSError, UnicodeDecodeError):
        raise CommandFailed("the file cannot be read as text") from None
    if not text.strip() or len(text) > _LONGEST:
        raise CommandFailed("the file is empty, or far too long to be this")
    return text


def _done(session: Session, what: str) -> None:
    if not session.screen.is_json:
        session.screen.done(what)


def _show(session: Session, about: dict[str, Any]) -> None:
    screen = session.screen
    if screen.is_json:
        screen.json(about)
        return
    kind = about["kind"]
    rows = [
        ("Repository", printable(about["repository"])),
        ("Credential", _NAMES.get(kind, "cannot be read") if kind else "none"),
    ]
    if kind:
        rows += [("Fingerprint", about["fingerprint"]), ("Since", moment(about["created"]))]
    rows += [
        (title, printable(str(about[name])))
        for title, name in (
            ("User", "user"),
            ("App", "appId"),
            ("Installation", "installationId"),
            ("Public key", "publicKey"),
        )
        if name in about
    ]
    rows += [("Host key", printable(line)) for line in about.get("hostKeys", ())]
    screen.details(rows)
