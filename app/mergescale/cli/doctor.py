"""``mergescale doctor`` and ``mergescale unit``: the server as a part of its machine."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final

import click

from mergescale.cli.errors import ExitCode
from mergescale.cli.options import offline
from mergescale.cli.screen import Screen, printable
from mergescale.cli.target import Given

_MARKS: Final = {"good": "✔", "warn": "!", "bad": "✗"}


@click.command("doctor")
@click.option("--state-dir", metavar="FOLDER", help="The server's folder [var].")
@offline
@click.pass_context
def doctor(context: click.Context, /, screen: Screen, state_dir: str | None) -> None:
    """Look for what is wrong with this machine's server, whether it runs or not.

    ✔ is well, ! may surprise you, ✗ does not work. Exit code 0 without any ✗, 3 with one. Run it
    as the user, and with the settings, of the server.
    """
    from mergescale.server.doctor import examine
    from mergescale.server.findings import State

    if state_dir is None and isinstance(context.obj, Given) and context.obj.state_dir is not None:
        state_dir = str(context.obj.state_dir)
    if state_dir is not None:
        os.environ["MERGESCALE_STATE_DIR"] = state_dir
    findings = examine(os.environ)
    if screen.is_json:
        screen.json(
            [{"part": f.part, "state": f.state, "what": f.what, "help": f.help} for f in findings]
        )
    else:
        for finding in findings:
            screen.line(printable(f"{_MARKS[finding.state]} {finding.part}: {finding.what}"))
            if finding.help:
                screen.line(printable(f"  {finding.help}"))
    if any(finding.state is State.BAD for finding in findings):
        context.exit(ExitCode.BAD_NEWS)


@click.command("unit")
@offline
def unit(screen: Screen) -> None:
    """Print a hardened unit for systemd that runs this very program."""
    from importlib.resources import files

    text = files("mergescale.server").joinpath("mergescale.service").read_text("utf-8")
    program = shutil.which(sys.argv[0]) or sys.argv[0]
    text = text.replace("@MERGESCALE@", str(Path(program).absolute()))
    if screen.is_json:
        screen.json({"unit": text})
    else:
        screen.line(text.rstrip("\n"))
