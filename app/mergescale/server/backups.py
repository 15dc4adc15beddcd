"""Backups as files: who may read them, where the automatic ones go, and the way back.

They are taken from the database itself and not through the API: that works while the server runs,
works when it cannot start, which is when one is wanted, and no API token can take the server's
keys away.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import structlog

from mergescale import __version__
from mergescale.identity.masterkey import MasterKey
from mergescale.kernel.clock import Clock
from mergescale.kernel.errors import MergescaleError
from mergescale.server.master_key import keep, master_key
from mergescale.server.settings import Settings
from mergescale.store import backup
from mergescale.store.archive import Archive
from mergescale.store.backup import Holding, InUse, NothingToBackUp
from mergescale.store.database import SQLITE, parse_url
from mergescale.store.schema import migrate
from mergescale.store.server_secrets import MasterKeyWrong

log = structlog.get_logger()

#: LIMIT: automatic backups that are kept; they come with upgrades and forced restores only.
KEPT: Final = 5
_ANSWER_S: Final = 1.0


class BackupFailed(MergescaleError):
    """Raised when a backup could not be written."""

    code = "server.backup"


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that was taken.

    Attributes:
        holds: each tailnet in it.
        sealed_by: fingerprint of the master key that is needed to use it; empty for none.
        has_key: the key is in the file.
    """

    path: Path
    size_bytes: int
    rows: int
    holds: Sequence[Holding]
    sealed_by: str
    has_key: bool


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore brought back.

    Attributes:
        made: when the backup was taken.
        replaced: where what was there before is now; None if there was nothing.
        missing_key: fingerprint of the master key that has to be put in place before the start.
    """

    made: datetime
    holds: Sequence[Holding]
    replaced: Path | None
    missing_key: str


def take(settings: Settings, path: Path, clock: Clock, *, with_master_key: bool = False) -> Made:
    """Write a backup to a new file that only this user can read; the server may run meanwhile.

    Raises:
        BackupFailed: the file is there already or could not be written.
        NothingToBackUp: the server has never run.
        MasterKeyUnusable: `with_master_key`, and there is none.
        StoreUnavailable: the database could not be read.
    """
    key = master_key(settings) if with_master_key else None
    if with_master_key and key is None:
        raise BackupFailed("there is no master key to put into the backup")
    text = key.text if key is not None else ""
    holds, rows = _write(settings.database, path, clock.now(), text)
    header = Archive.open(path).header
    return Made(path, path.stat().st_size, rows, holds, header.sealed_by, bool(text))


def restore(settings: Settings, path: Path, clock: Clock, *, force: bool = False) -> Restored:
    """Make the database what the backup holds.

    What `force` replaces is backed up first.

    Raises:
        BackupUnusable: the file is no whole backup, or of a newer version.
        InUse: a server runs on the database, or it holds something and `force` is off.
        MasterKeyUnusable: the key that is in place, or could not be put there, is in the way.
        MasterKeyWrong: another key is in place.
        StoreUnavailable: the database did not take it; it is as it was.
    """
    archive = Archive.open(path)
    missing_key = _check_key(settings, archive)
    _check_stopped(settings)
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    replaced = _back_up_once_more(settings, clock) if force else None
    holds = backup.restore(settings.database, archive, force=force)
    if missing_key and archive.header.master_key:
        keep(settings.master_key_path, MasterKey.parse(archive.header.master_key))
        missing_key = ""
    return Restored(archive.header.made, holds, replaced, missing_key)


def migrate_with_backup(settings: Settings, clock: Clock) -> None:
    """Bring the database's schema up to date, after a backup if it holds anything.

    Raises:
        BackupFailed: there is no backup, so nothing was migrated.
        SchemaTooNew: the database is of a newer version; nothing was changed.
        StoreUnavailable: the database failed; nothing was changed.
    """
    migrate(settings.database, partial(_before_upgrade, settings, clock))


def _before_upgrade(settings: Settings, clock: Clock, schema: str) -> None:
    path = _automatic(settings, f"schema-{schema}", clock.now())
    _write(settings.database, path, clock.now(), "")
    log.info("server.backed-up", file=str(path), why="the schema is about to be upgraded")


def _back_up_once_more(settings: Settings, clock: Clock) -> Path | None:
    path = _automatic(settings, "restore", clock.now())
    try:
        _write(settings.database, path, clock.now(), "")
    except NothingToBackUp:
        return None
    return path


def _automatic(settings: Settings, why: str, now: datetime) -> Path:
    """Return the name of a new automatic backup, and forget the oldest ones."""
    folder = settings.state_dir / "backups"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = sorted(folder.glob("*-before-*.backup"))
        for old in kept[: max(len(kept) - KEPT + 1, 0)]:
            old.unlink()
    except OSError as error:
        raise _failed(folder, error) from error
    return folder / f"{now:%Y%m%dT%H%M%S%f}-before-{why}.backup"


def _write(database: str, path: Path, now: datetime, key: str) -> tuple[Sequence[Holding], int]:
    """Write a backup under another name first, so that a whole one has the right name."""
    fresh = path.with_name(f"{path.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                done = backup.export(database, file, made=now, server=__version__, master_key=key)
                _sync(file)
            # A link, unlike a rename, never takes the place of an earlier backup.
            path.hardlink_to(fresh)
        finally:
            fresh.unlink()
    except OSError as error:
        raise _failed(path, error) from error
    return done


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _failed(path: Path, error: OSError) -> BackupFailed:
    return BackupFailed(
        f'the backup "{path}" could not be written: {error.strerror or error}',
        help="name a file that does not exist yet, in a folder that you may write to",
    )


def _check_key(settings: Settings, archive: Archive) -> str:
    """Return the fingerprint of the key that is not there yet; refuse a wrong one."""
    needed, there = archive.header.sealed_by, master_key(settings)
    if needed and there is not None and there.fingerprint != needed:
        raise MasterKeyWrong(needed, there)
    return needed if there is None else ""


def _check_stopped(settings: Settings) -> None:
    """Check that no server of this machine answers; others are known by their leases."""
    if parse_url(settings.database).drivername != SQLITE:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_ANSWER_S)
        try:
            probe.connect(str(settings.unix_socket))
        except OSError:
            return
    raise InUse(
        f'a server runs and answers at "{settings.unix_socket}"',
        help="stop it, restore, and start it again",
    )
