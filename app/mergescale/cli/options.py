"""What every command takes, once: the decorators that give it to them.

A command is a plain function whose first argument is a `Session` (it asks a server) or a `Screen`
(it works offline). The decorator puts the shared options in that argument's place, so that they
can stand before the noun or after the verb.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, Final

import click

from mergescale.cli.client import Client
from mergescale.cli.screen import Format, Screen
from mergescale.cli.target import Given, find

Decorator = Callable[[Callable[..., None]], Callable[..., None]]

_output: Final[Decorator] = click.option(
    "--output",
    "-o",
    type=click.Choice([str(form) for form in Format]),
    metavar="text|json",
    help="How to print the answer.",
)
_server: Final[tuple[Decorator, ...]] = (
    click.option(
        "--server",
        metavar="URL",
        help="Ask the server at this URL (or MERGESCALE_SERVER); else this machine's, by its unix"
        " socket.",
    ),
    click.option(
        "--token",
        metavar="TOKEN",
        help="API token for --server; better in MERGESCALE_TOKEN, where ps does not show it.",
    ),
    click.option(
        "--tailnet",
        metavar="NAME",
        help="The tailnet that is meant (or MERGESCALE_TAILNET), on a server that holds several.",
    ),
    click.option(
        "--state-dir",
        metavar="FOLDER",
        type=click.Path(path_type=Path),
        help="Where this machine's server keeps its files and socket (or MERGESCALE_STATE_DIR)"
        " [var].",
    ),
)
_EVERY: Final = (_output, *_server)
#: For what cannot be undone.
yes_option: Final = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


@dataclass(frozen=True, slots=True)
class Session:
    """What a command that asks a server works with."""

    server: Client
    screen: Screen


def shared_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command all shared options, by the names of `Given`."""
    for option in reversed(_EVERY):
        function = option(function)
    return function


def online(function: Callable[Concatenate[Session, ...], None]) -> Callable[..., None]:
    """Let a command ask a server: give it all shared options and a `Session` made of them."""

    @functools.wraps(function)
    @click.pass_context
    def command(
        context: click.Context,
        /,
        output: str | None,
        server: str | None,
        token: str | None,
        tailnet: str | None,
        state_dir: Path | None,
        **own: Any,
    ) -> None:
        given = Given(output, server, token, tailnet, state_dir).over(given_before(context))
        client = Client(find(given, os.environ), tailnet_of(given))
        function(Session(client, Screen.standard(given.output)), **own)

    return shared_options(command)


def offline(function: Callable[Concatenate[Screen, ...], None]) -> Callable[..., None]:
    """Let a command print: give it ``-o`` and a `Screen` made of it."""

    @functools.wraps(function)
    @click.pass_context
    def command(context: click.Context, /, output: str | None, **own: Any) -> None:
        given = Given(output).over(given_before(context))
        function(Screen.standard(given.output), **own)

    return _output(command)


def tailnet_of(given: Given) -> str | None:
    """Return the tailnet that is meant, None for the only one."""
    return given.tailnet or os.environ.get("MERGESCALE_TAILNET") or None


def given_before(context: click.Context) -> Given:
    """Return what was given before the noun."""
    return context.obj if isinstance(context.obj, Given) else Given()
