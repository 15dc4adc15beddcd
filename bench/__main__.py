"""``python -m bench``: see ``--help``."""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import uvloop
from rich.console import Console

from bench.measures import language, planning
from bench.postgres import MISSING, programs
from bench.replica import find
from bench.results import Figure, judged, show, write
from bench.run import Plan, Told, shared, stranger, whole
from bench.site import Stranger

#: What of a run is wanted.
ALL: Final = "all"
SIZES: Final = "sizes"
REPLICAS: Final = "replicas"
POLICY: Final = "policy"


@click.command(context_settings={"show_default": True})
@click.option("--clients", default=1000, help="Clients of the table.")
@click.option("--small", default=250, help="Clients of the memory's lower end; 0 for none.")
@click.option("--large", default=5000, help="Clients of the second table; 0 for none.")
@click.option("--rounds", default=5, help="How often what can be repeated is.")
@click.option("--idle", default=30.0, help="Seconds for which idle clients are watched.")
@click.option(
    "--part",
    type=click.Choice([ALL, SIZES, REPLICAS, POLICY]),
    default=ALL,
    help="All, or one server at several sizes, or replicas on PostgreSQL, or the policy language.",
)
@click.option("--url", help="Another server; then --auth-key is needed, and --clients may join it.")
@click.option("--auth-key", envvar="BENCH_AUTH_KEY", help="A reusable pre-auth key of that server.")
@click.option("--date", default="", help="Written into the results.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write JSON here.")
@click.option(
    "--profile", type=click.Path(path_type=Path, file_okay=False), help="Profile into it."
)
def main(
    clients: int,
    small: int,
    large: int,
    rounds: int,
    idle: float,
    part: str,
    url: str | None,
    auth_key: str | None,
    date: str,
    out: Path | None,
    profile: Path | None,
) -> None:
    """Put load on a server and print what it does."""
    if bool(url) != bool(auth_key):
        raise click.UsageError("--url and --auth-key go together")
    _allow_sockets()
    console = Console(width=170) if not Console().is_terminal else Console()
    plan = Plan(clients, small, large, rounds, idle, profile)

    def tell(figures: Sequence[Figure]) -> None:
        show(figures, console)

    if url and auth_key:
        console.print("policy, memory, processor time, relay and lag need a server of our own")
        figures = uvloop.run(stranger(Stranger(find(url), auth_key), plan, tell))
    else:
        if part in {ALL, REPLICAS} and programs() is None:
            console.print(f"no figures of replicas: {MISSING}")
        with tempfile.TemporaryDirectory(prefix="mergescale-bench-") as folder:
            figures = uvloop.run(_ours(plan, Path(folder), part, tell))
    figures = judged(figures, clients)
    console.rule()
    show(figures, console)
    if out is not None and part != POLICY:
        write(out, figures, date)
    if not url and part in {ALL, POLICY}:
        of_language = language.whole([*language.REACH], language.LARGE_TEXT, rounds)
        of_language += planning.whole([*planning.REACH], rounds)
        show(of_language, console)
        if out is not None:
            write(out, of_language, date, section=POLICY)


async def _ours(plan: Plan, folder: Path, part: str, tell: Told) -> list[Figure]:
    """Measure servers of our own."""
    figures: list[Figure] = []
    if part in {ALL, SIZES}:
        figures += await whole(plan, folder, tell)
    if part in {ALL, REPLICAS}:
        figures += await shared(plan, folder, tell)
    return figures


def _allow_sockets() -> None:
    """Raise the number of open files to what the system allows; the server inherits it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()
