"""The tree of commands, and how each ends: an answer, or one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from mergescale import __version__
from mergescale.cli import (
    apikeys,
    auth,
    authkeys,
    config,
    gitops,
    inventory,
    nodes,
    oauth_clients,
    policy,
    ssh,
    users,
)
from mergescale.cli.backup import backup, restore
from mergescale.cli.doctor import doctor, unit
from mergescale.cli.errors import CommandFailed, ExitCode, misused
from mergescale.cli.groups import show_help_without_command
from mergescale.cli.health import health, version
from mergescale.cli.options import shared_options
from mergescale.cli.screen import printable
from mergescale.cli.serve import serve
from mergescale.cli.target import Given
from mergescale.kernel.errors import MergescaleError

_EPILOG: Final = (
    "Exit codes: 0 done, 1 not done, 2 wrong usage, 3 what was looked at is not well (a policy's"
    " test fails, the newest commit is not in force), 4 the server wants a token."
)


@click.group(
    "mergescale",
    epilog=_EPILOG,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="mergescale %(version)s")
@shared_options
@click.pass_context
def root(
    context: click.Context,
    /,
    output: str | None,
    server: str | None,
    token: str | None,
    tailnet: str | None,
    state_dir: Path | None,
) -> None:
    """A coordination server for Tailscale clients whose truth is a git repository."""
    context.obj = Given(output, server, token, tailnet, state_dir)
    show_help_without_command(context)


for _command in (
    serve,
    nodes.app,
    users.app,
    authkeys.app,
    apikeys.app,
    oauth_clients.app,
    auth.app,
    ssh.app,
    gitops.app,
    policy.app,
    inventory.app,
    config.app,
    backup,
    restore,
    doctor,
    unit,
    health,
    version,
):
    root.add_command(_command)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; return its exit code."""
    try:
        code = root.main(list(arguments), prog_name="mergescale", standalone_mode=False)
        sys.stdout.flush()
    except MergescaleError as error:
        exit_code = error.exit_code if isinstance(error, CommandFailed) else ExitCode.ERROR
        return _failed(error.message, error.help, exit_code)
    except click.UsageError as error:
        wrong = misused(error, ExitCode.USAGE)
        return _failed(wrong.message, wrong.help, wrong.exit_code)
    except click.ClickException as error:
        return _failed(error.format_message(), "", ExitCode.ERROR)
    except (click.Abort, KeyboardInterrupt):
        return _failed("interrupted", "", ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # Whoever read the answer has seen enough; nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.ERROR
    return code if isinstance(code, int) else ExitCode.OK


def _failed(message: str, help_: str, code: ExitCode) -> int:
    click.echo(f"error: {printable(message)}", err=True)
    if help_:
        click.echo(f"help: {printable(help_)}", err=True)
    return code
