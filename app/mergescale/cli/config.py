"""``mergescale config``: the settings this server would start with, and what is wrong with them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from mergescale.cli.errors import ExitCode
from mergescale.cli.groups import noun
from mergescale.cli.options import offline
from mergescale.cli.screen import Screen, printable

if TYPE_CHECKING:
    from mergescale.server.configuration import Reading

app = noun("config", "Look at the server's settings: environment, TOML file, defaults.")

_file = click.option("--config", metavar="FILE", help="The TOML file (or MERGESCALE_CONFIG).")


@app.command("check")
@_file
@offline
def check(screen: Screen, /, config: str | None) -> None:
    """Say whether the server could start with these settings, and where each one comes from.

    Tries what can be tried without starting: addresses of repositories, the database's URL, the
    certificate's files. Exit code 1 with one line per problem.
    """
    _tell(screen, _read(config), checked=True)


@app.command("show")
@_file
@offline
def show(screen: Screen, /, config: str | None) -> None:
    """Show the settings that are not the default, and where each one comes from."""
    _tell(screen, _read(config), checked=False)


def _read(config: str | None) -> Reading:
    from mergescale.server.configuration import read

    if config is not None:
        os.environ["MERGESCALE_CONFIG"] = config
    return read(os.environ)


def _tell(screen: Screen, reading: Reading, *, checked: bool) -> None:
    wanted = [one for one in reading.effective if checked or one.origin != "default"]
    # What cannot be read is a problem for both; what cannot be used is one for `check`.
    problems = reading.problems if checked or reading.settings is None else ()
    if screen.is_json:
        answer: dict[str, Any] = {
            "settings": {one.setting: {"value": one.value, "origin": one.origin} for one in wanted},
            "problems": [
                {"setting": one.setting, "message": one.message, "origin": one.origin}
                for one in problems
            ],
        }
        screen.json(answer)
    elif wanted:
        rows = ((one.setting, one.value, one.origin) for one in wanted)
        screen.table(("SETTING", "VALUE", "FROM"), rows)
    elif reading.settings is not None:
        screen.line("every setting has its default")
    for problem in problems:
        click.echo(f"error: {printable(str(problem))}", err=True)
    if problems:
        click.get_current_context().exit(ExitCode.ERROR)
