"""Tables for a terminal, by rich. NO_COLOR is honoured by rich itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mergescale.cli.screen import Cell


def print_table(
    titles: Sequence[str], rows: Sequence[Sequence[Cell]], out: TextIO, width: int | None
) -> None:
    """Print rows under their titles, without lines around them.

    Args:
        titles: of the columns.
        rows: cells whose text is printable.
        out: a terminal.
        width: of it; None finds out.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        # Text, not str: names of devices are no markup.
        table.add_row(*(Text(cell.text, style=cell.tone) for cell in row))
    Console(file=out, width=width, force_terminal=True, highlight=False).print(table)
