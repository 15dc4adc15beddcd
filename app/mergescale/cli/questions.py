"""Asking before what cannot be undone, and spans of time as people write them."""

from __future__ import annotations

import re
import sys
from typing import Final

import click

from mergescale.cli.errors import CommandFailed

_UNITS_S: Final = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_SPAN: Final = re.compile(r"(?:[0-9]{1,9}[wdhms])+")


def confirm(question: str, *, yes: bool) -> None:
    """Go on only if the person says so; `yes` is that it was said already.

    Raises:
        CommandFailed: no, or nobody can be asked.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CommandFailed("nobody can be asked here", help="say --yes if you are sure")
    if not click.confirm(question, err=True):
        raise CommandFailed("cancelled, nothing was changed")


def span_s(text: str) -> int:
    """Return the seconds of a span of time such as ``90d``, ``12h`` or ``1w2d``.

    Raises:
        ValueError: it is none.
    """
    if not _SPAN.fullmatch(text):
        raise ValueError(f'"{text}" is not a span of time such as 90d, 12h or 30m')
    total = sum(int(count) * _UNITS_S[unit] for count, unit in re.findall(r"(\d+)([wdhms])", text))
    if total == 0:
        raise ValueError("a span of time must not be nothing")
    return total
