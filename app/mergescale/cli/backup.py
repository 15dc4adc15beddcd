"""``mergescale backup`` and ``mergescale restore``: the server's data as one file.

They read the server's own settings and its database, not the API: see ``server.backups``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mergescale.cli.options import offline
from mergescale.cli.screen import Screen
from mergescale.cli.serve import settings_from
from mergescale.cli.target import Given

if TYPE_CHECKING:
    from mergescale.server.backups import Made, Restored
    from mergescale.server.settings import Settings

_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
_state_dir = click.option(
    "--state-dir", metavar="FOLDER", help="The server's folder (or MERGESCALE_STATE_DIR) [var]."
)


@click.command("backup")
@_file
@_state_dir
@click.option("--with-master-key", is_flag=True, help="Put the key into the file as well.")
@offline
def backup(screen: Screen, /, file: Path, state_dir: str | None, *, with_master_key: bool) -> None:
    """Write all that the server knows to a new FILE, while it runs or while it does not.

    The server's own keys in it are sealed; the master key is not in it unless you ask.
    """
    from mergescale.server.backups import take
    from mergescale.server.system import SystemClock

    made = take(configured(state_dir), file, SystemClock(), with_master_key=with_master_key)
    _tell_made(screen, made)


@click.command("restore")
@_file
@_state_dir
@click.option("--force", is_flag=True, help="Replace what the database holds.")
@offline
def restore(screen: Screen, /, file: Path, state_dir: str | None, *, force: bool) -> None:
    """Make the database what FILE holds; the server must not run.

    Into an empty database, SQLite or PostgreSQL whichever FILE came from. With --force what is
    there is backed up and replaced. Devices and keys made after FILE are gone, and keys used or
    revoked after it are as before: look at `mergescale authkeys list` and `apikeys list`.
    """
    from mergescale.server.backups import restore as bring_back
    from mergescale.server.system import SystemClock

    _tell_restored(screen, bring_back(configured(state_dir), file, SystemClock(), force=force))


def configured(state_dir: str | None) -> Settings:
    """Return the settings of this machine's server, with this folder or the one said before.

    Raises:
        MergescaleError: one of them cannot be; names it.
    """
    before = click.get_current_context().obj
    if state_dir is None and isinstance(before, Given) and before.state_dir is not None:
        state_dir = str(before.state_dir)
    return settings_from({} if state_dir is None else {"state_dir": state_dir})


def _tell_made(screen: Screen, made: Made) -> None:
    if screen.is_json:
        screen.json(
            {
                "file": str(made.path),
                "sizeBytes": made.size_bytes,
                "rows": made.rows,
                "tailnets": [
                    {"name": h.tailnet, "revision": h.revision, "nodes": h.nodes}
                    for h in made.holds
                ],
                "sealedBy": made.sealed_by,
                "hasMasterKey": made.has_key,
            }
        )
        return
    for holding in made.holds:
        screen.line(f"{holding}")
    screen.done(f"wrote {made.path} ({made.size_bytes} bytes)")
    if made.has_key:
        screen.hint("The master key is in it: whoever has the file can be this server.")
    elif made.sealed_by:
        screen.hint(f"It is of use only with the master key {made.sealed_by}; keep both, apart.")


def _tell_restored(screen: Screen, restored: Restored) -> None:
    if screen.is_json:
        screen.json(
            {
                "made": restored.made.isoformat(),
                "tailnets": [
                    {"name": h.tailnet, "revision": h.revision, "nodes": h.nodes}
                    for h in restored.holds
                ],
                "replaced": None if restored.replaced is None else str(restored.replaced),
                "missingMasterKey": restored.missing_key,
            }
        )
        return
    for holding in restored.holds:
        screen.line(f"{holding}")
    screen.done(f"restored what was backed up at {restored.made:%Y-%m-%dT%H:%M:%SZ}")
    if restored.replaced is not None:
        screen.hint(f"What was there before is in {restored.replaced}.")
    if restored.missing_key:
        screen.hint(f"Put the master key {restored.missing_key} in place before the start.")
