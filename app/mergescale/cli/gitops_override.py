"""``mergescale gitops override``: a policy in place of the repository's, in an emergency."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mergescale.cli.errors import CommandFailed, ExitCode
from mergescale.cli.keys import Span
from mergescale.cli.options import Session, online, yes_option
from mergescale.cli.questions import confirm
from mergescale.cli.screen import moment

#: LIMIT: seconds; what is needed for longer than a week belongs into the repository.
_LONGEST_S = 604_800
#: LIMIT: seconds; the server compiles the policy, and may look at the repository.
_ANSWER_S = 180.0


@click.command("override")
@click.argument(
    "file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--reason", metavar="TEXT", help="Why; kept, and shown everywhere.")
@click.option("--for", "lasting_s", type=Span(), help="For how long, as in 2h; 7 days at most.")
@click.option("--off", is_flag=True, help="Put back now what the repository says.")
@yes_option
@online
def override(
    session: Session,
    file: Path | None,
    reason: str | None,
    lasting_s: int | None,
    *,
    off: bool,
    yes: bool,
) -> None:
    """Put the policy in FILE in force in place of the repository's, for a while.

    It is checked and tested as a commit is. No commit comes into force meanwhile, and afterwards
    what the repository says comes back by itself.
    """
    if off:
        confirm("Put back what the repository says?", yes=yes)
        done = session.server.inside("DELETE", "gitops", "override", timeout_s=_ANSWER_S)
        _tell(session, done, "the repository's policy is in force again")
        return
    if file is None or reason is None or lasting_s is None:
        raise click.UsageError(
            "give FILE, --reason and --for, or --off", click.get_current_context()
        )
    if lasting_s > _LONGEST_S:
        raise CommandFailed(
            "an override lasts 7 days at most",
            help="what is needed for longer belongs into the repository",
        )
    body = {"policy": _read(file), "reason": reason, "expirySeconds": lasting_s}
    confirm(f"Put {file} in force in place of the repository's policy?", yes=yes)
    done = session.server.inside("POST", "gitops", "override", body=body, timeout_s=_ANSWER_S)
    _tell(session, done, f"{file} is in force{until(done['override'])}")


def until(wanted: dict[str, Any] | None) -> str:
    """Return when something ends by itself, empty if it does not."""
    return f" until {moment(wanted['until'])}" if wanted and wanted["until"] else ""


def _tell(session: Session, done: dict[str, Any], message: str) -> None:
    if session.screen.is_json:
        session.screen.json(done)
    session.screen.done(message)


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except UnicodeDecodeError:
        raise CommandFailed(f"{file} is not UTF-8", exit_code=ExitCode.ERROR) from None
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise CommandFailed(f"{file} cannot be read: {why}") from error
