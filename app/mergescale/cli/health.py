"""``mergescale health`` and ``mergescale version``."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import click

from mergescale import __version__
from mergescale.cli.errors import CommandFailed, ExitCode
from mergescale.cli.options import Session, offline, online
from mergescale.cli.screen import Cell, Screen, Tone

_TONES = {"pass": Tone.GOOD, "fail": Tone.BAD}


@click.command("health")
@online
def health(session: Session) -> None:
    """Say how the server is, part by part; needs no token.

    Exit code 0 while it serves, also with warnings; 1 if a part fails or nothing answers.
    """
    status, report = session.server.outside("/health")
    if not isinstance(report, dict) or "checks" not in report:
        raise CommandFailed(f"what answers at {session.server.target} is not a Mergescale server")
    if session.screen.is_json:
        session.screen.json(report)
    else:
        parts = [("server", report["status"], f"version {report['version']}"), *_parts(report)]
        session.screen.table(
            ("PART", "STATE", "WHY"), ((name, _state(word), why) for name, word, why in parts)
        )
    if status != HTTPStatus.OK:
        click.get_current_context().exit(ExitCode.ERROR)


@click.command("version")
@offline
def version(screen: Screen) -> None:
    """Say which version this is."""
    if screen.is_json:
        screen.json({"name": "mergescale", "version": __version__})
        return
    screen.line(f"mergescale {__version__}")


def _parts(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (name, one["status"], one.get("output", ""))
        for name, found in report["checks"].items()
        for one in found
    ]


def _state(word: str) -> Cell:
    return Cell(word, _TONES.get(word, Tone.PLAIN))
