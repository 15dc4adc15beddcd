"""``mergescale serve``: the server itself."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import click

from mergescale.cli.errors import CommandFailed
from mergescale.cli.target import Given
from mergescale.kernel.errors import MergescaleError

if TYPE_CHECKING:
    from pydantic import ValidationError

    from mergescale.server.settings import Settings


@click.command("serve")
@click.option("--state-dir", metavar="FOLDER", help="Everything it keeps [var].")
@click.option("--listen", metavar="HOST:PORT", help="Its one HTTP port [127.0.0.1:8080].")
@click.option("--server-url", metavar="URL", help="What clients are told to use.")
@click.option("--repository", metavar="URL", help="The watched repository, a URL or a folder.")
@click.option("--branch", metavar="NAME", help="The branch in force [main].")
@click.pass_context
def serve(context: click.Context, /, **said: str | None) -> None:
    """Run the server until it is told to stop.

    All further settings come from the environment (MERGESCALE_…) or a TOML file that
    MERGESCALE_CONFIG names; the README lists them. Exit code 0 on SIGTERM or Ctrl-C, 1 if it
    cannot start.
    """
    # What is imported and read until the server runs stays; to look through it for garbage again and
    # again is a sixth of the start. `server.memory` switches it on.
    gc.disable()
    before = context.obj
    if isinstance(before, Given) and before.state_dir is not None:
        said["state_dir"] = said["state_dir"] or str(before.state_dir)
    settings = settings_from({name: value for name, value in said.items() if value is not None})

    from mergescale.server.lifecycle import run
    from mergescale.server.logs import set_up_logs

    set_up_logs(settings.log_level, settings.log_format)
    try:
        run(settings, _say)
    except OSError as error:
        # Listeners have words of their own; what names a file is the folder that cannot be had,
        # and anything else is a bug whose traceback is wanted.
        if error.filename is None:
            raise
        raise CommandFailed(
            f'cannot use "{error.filename}": {error.strerror}',
            help="--state-dir names the server's folder",
        ) from error


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the greeting


def settings_from(said: dict[str, Any]) -> Settings:
    """Read the settings.

    Raises:
        MergescaleError: one of them cannot be; names it.
    """
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from mergescale.server.settings import Settings

    try:
        return Settings(**said)
    except ValidationError as error:
        raise _bad_setting(error) from None
    except SettingsError as error:
        raise CommandFailed(f"the settings cannot be read: {error}") from None
    except MergescaleError:
        raise
    except ValueError as error:
        # tomllib's own.
        raise CommandFailed(
            f"the configuration file is not TOML: {error}", help="MERGESCALE_CONFIG names it"
        ) from None


def _bad_setting(error: ValidationError) -> CommandFailed:
    """Return the first of pydantic's complaints as one line that names the setting."""
    from mergescale.server.configuration import told

    (where, what), *others = told(error)
    more = f" (and {len(others)} more)" if others else ""
    if not where:
        return CommandFailed(f"the settings contradict each other: {what}{more}")
    return CommandFailed(
        f"the setting {'.'.join(where)} cannot be: {what}{more}",
        help=f"it comes from the command line, MERGESCALE_{where[0].upper()} or the file of"
        " MERGESCALE_CONFIG; `mergescale config check` says which",
    )
