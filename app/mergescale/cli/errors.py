"""How a command ends when it does not do what was asked."""

from __future__ import annotations

from enum import IntEnum

import click

from mergescale.kernel.errors import MergescaleError


class ExitCode(IntEnum):
    """Exit codes, the same for every command.

    Attributes:
        ERROR: it was not done; the ``error:`` line says why.
        USAGE: the command line itself is wrong.
        BAD_NEWS: the command worked and what it looked at is not well: a policy's own test fails, or
            the newest commit is not in force.
        AUTHENTICATION: the server wants a (better) token; as gh has it.
        INTERRUPTED: Ctrl-C; 128 + SIGINT as shells have it.
    """

    OK = 0
    ERROR = 1
    USAGE = 2
    BAD_NEWS = 3
    AUTHENTICATION = 4
    INTERRUPTED = 130


class CommandFailed(MergescaleError):
    """Raised when a command cannot go on; told as one line.

    Attributes:
        exit_code: of the process.
    """

    code = "cli"

    def __init__(
        self,
        message: str,
        *,
        help: str = "",  # noqa: A002 - the field's word
        exit_code: ExitCode = ExitCode.ERROR,
    ) -> None:
        super().__init__(message, help=help)
        self.exit_code = exit_code


def misused(error: click.UsageError, code: ExitCode) -> CommandFailed:
    """Return what is wrong with the command line itself."""
    message = error.format_message().rstrip(".")
    path = "mergescale" if error.ctx is None else error.ctx.command_path
    help_ = f"`{path} --help` shows how"
    return CommandFailed(message[:1].lower() + message[1:], help=help_, exit_code=code)
