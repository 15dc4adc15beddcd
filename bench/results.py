"""Figures, what they should be, and how they are shown."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.process import processor

_LIBRARIES: Final = (
    "uvloop",
    "h2",
    "litestar",
    "msgspec",
    "cryptography",
    "zstandard",
    "sqlalchemy",
)


class Verdict(StrEnum):
    """How a figure compares with its reach."""

    OK = "ok"
    OVER = "over"
    LINEAR = "linear"
    FIGURE = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number, or several of one thing.

    Attributes:
        name: what was measured; the same at every size.
        clients: how many were connected or taking part.
        values: in `unit`, in the order they were taken.
        reach: what it should not exceed; None where there is nothing to reach.
        at_least: the reach is a lower bound.
        replicas: how many servers on one PostgreSQL it was; 0 for one on a database of its own.
        note: what else a reader has to know.
    """

    name: str
    clients: int
    values: tuple[float, ...]
    unit: str
    reach: float | None = None
    at_least: bool = False
    note: str = ""
    replicas: int = 0

    @property
    def typical(self) -> float:
        """The median: what one gets."""
        return statistics.median(self.values)

    @property
    def best(self) -> float:
        """What one gets on a machine that does nothing else."""
        return max(self.values) if self.at_least else min(self.values)

    @property
    def verdict(self) -> Verdict:
        """Whether the typical value is within reach."""
        if self.reach is None:
            return Verdict.FIGURE
        within = self.typical >= self.reach if self.at_least else self.typical <= self.reach
        return Verdict.OK if within else Verdict.OVER


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that a share (0 to 1) of the values do not exceed; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def scaled(small: Figure, large: Figure) -> Figure:
    """Return the large figure judged by the small one: at N times the clients at most N times it.

    Rates, the other way round, may be N times lower; they should not be.
    """
    factor = large.clients / small.clients
    reach = small.typical / factor if large.at_least else small.typical * factor
    return replace(large, reach=reach)


def judged(figures: Iterable[Figure], base: int) -> list[Figure]:
    """Return the figures; those at more than `base` clients are judged by the ones at `base`."""
    figures = list(figures)
    of_base = {one.name: one for one in figures if one.clients == base and not one.replicas}
    return [
        scaled(of_base[one.name], one)
        if one.clients > base and one.name in of_base and of_base[one.name].reach is not None
        else one
        for one in figures
    ]


def table(figures: Sequence[Figure]) -> Table:
    """Return the table for a terminal."""
    shown = Table("measure", "clients", "typical", "best", "reach", "", "note", box=None)
    for column in (1, 2, 3, 4):
        shown.columns[column].justify = "right"
    for one in figures:
        shown.add_row(
            one.name,
            f"{one.clients:,}",
            f"{_number(one.typical)} {one.unit}".strip(),
            _number(one.best),
            _bound(one),
            _coloured(one.verdict),
            one.note,
        )
    return shown


def beside(figures: Sequence[Figure]) -> Table:
    """Return the table of the replicas: a measure with one beside the same with two."""
    shown = Table("on PostgreSQL", box=None)
    shown.add_column("clients", justify="right")
    counts = sorted({one.replicas for one in figures})
    for count in counts:
        shown.add_column(f"{count} replica{'s' * (count > 1)}", justify="right")
        shown.add_column("")
    shown.add_column("reach", justify="right")
    shown.add_column("note")
    rows: dict[str, dict[int, Figure]] = {}
    # The largest site first: what only several have then stands in its place.
    for one in sorted(figures, key=lambda one: -one.replicas):
        rows.setdefault(one.name, {})[one.replicas] = one
    for name, found in rows.items():
        some = next(iter(found.values()))
        cells = [cell for count in counts for cell in _cells(found.get(count))]
        shown.add_row(name, f"{some.clients:,}", *cells, _bound(some), _notes(found))
    return shown


def show(figures: Sequence[Figure], console: Console) -> None:
    """Print what there is: the table, the one of the replicas."""
    alone = [one for one in figures if not one.replicas]
    together = [one for one in figures if one.replicas]
    if alone:
        console.print(table(alone))
    if together:
        console.print(beside(together))


def write(path: Path, figures: Sequence[Figure], date: str, *, section: str = "") -> None:
    """Write the figures and the machine as JSON.

    Args:
        path: a file, which need not be there; the other sections in it stay.
        figures: what was measured.
        date: when.
        section: the member of the file they are; empty for the file itself.
    """
    said: dict[str, Any] = {"machine": machine(), "date": date}
    said["figures"] = [
        {**asdict(one), "typical": one.typical, "best": one.best, "verdict": one.verdict}
        for one in figures
    ]
    held = json.loads(path.read_text("utf-8")) if path.exists() else {}
    whole = {**held, section: said} if section else {**held, **said}
    path.write_text(json.dumps(whole, indent=1) + "\n", "utf-8")


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": [round(one, 2) for one in os.getloadavg()],
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
    }


def _cells(figure: Figure | None) -> tuple[str, str]:
    """Return a figure and its verdict; empty where there is none, as of "the other" of one."""
    if figure is None:
        return "", ""
    return f"{_number(figure.typical)} {figure.unit}".strip(), _coloured(figure.verdict)


def _notes(found: Mapping[int, Figure]) -> str:
    """Return what is to be said of each number of replicas, once if it is the same of all."""
    notes = {count: one.note for count, one in sorted(found.items()) if one.note}
    if len(set(notes.values())) == 1:
        return next(iter(notes.values()))
    return "\n".join(f"{count}: {note}" for count, note in notes.items())


def _bound(figure: Figure) -> str:
    if figure.reach is None:
        return ""
    return f"{'≥' if figure.at_least else '≤'} {_number(figure.reach)}"


def _coloured(verdict: Verdict) -> str:
    return f"[green]{verdict}[/]" if verdict is Verdict.OK else f"[red]{verdict}[/]"


def _number(value: float) -> str:
    if value == 0:
        return "0"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"
