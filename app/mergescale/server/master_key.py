"""Where the master key comes from: the environment, or a file that the first start makes.

INVARIANT(one master key): a new key is made only where nothing was ever sealed. Whoever lost the
key is told so and keeps the sealed secrets; a new key would be a new server to all clients.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import structlog

from mergescale.identity.masterkey import KEY_BYTES, MasterKey
from mergescale.kernel.clock import Clock, Entropy
from mergescale.kernel.errors import Invalid, MergescaleError
from mergescale.server.settings import Settings
from mergescale.store.database import Database
from mergescale.store.server_secrets import MasterKeyWrong, ServerSecrets, sealed_under

log = structlog.get_logger()

#: LIMIT: a key's text has 86 characters; whatever is longer is no key and is not read.
_LONGEST_BYTES = 4096


class MasterKeyUnusable(MergescaleError):
    """Raised when the master key is missing, damaged, contradictory or open to others."""

    code = "server.master-key"


async def unlock(
    settings: Settings, database: Database, clock: Clock, entropy: Entropy
) -> ServerSecrets:
    """Return the server's secrets; the first start makes the master key.

    Raises:
        MasterKeyUnusable: no key where one is needed, or one that cannot be used.
        MasterKeyWrong: the database's secrets are sealed under another key.
        StoreUnavailable: the database could not be read or written.
    """
    given = master_key(settings)
    if given is not None:
        return await ServerSecrets.open(database, given, clock, entropy)
    holder = await sealed_under(database)
    if holder is not None:
        raise missing(settings, holder)
    made = MasterKey(entropy.bytes(KEY_BYTES))
    path = settings.master_key_path
    keep(path, made)
    try:
        secrets = await ServerSecrets.open(database, made, clock, entropy)
    except MasterKeyWrong as error:
        # Another replica made the first key in the same moment; this one sealed nothing.
        path.unlink()
        raise missing(settings, error.sealed_by) from None
    log.info("server.master-key-made", file=str(path), fingerprint=made.fingerprint)
    return secrets


def master_key(settings: Settings) -> MasterKey | None:
    """Return the key of the environment or the file, None where neither has one.

    Raises:
        MasterKeyUnusable: what is there is no key, contradicts itself or is open to others.
    """
    told = settings.master_key.get_secret_value()
    said = _parse(told, "MERGESCALE_MASTER_KEY") if told else None
    kept = _read(settings.master_key_path)
    if said is not None and kept is not None and said != kept:
        raise MasterKeyUnusable(
            f"MERGESCALE_MASTER_KEY is the key {said.fingerprint}, and the file"
            f' "{settings.master_key_path}" holds another one, {kept.fingerprint}',
            help="keep the one that the server used before, and take the other one away",
        )
    return said or kept


def keep(path: Path, key: MasterKey) -> None:
    """Write the key to a file of its own that only this user can read; durable on return.

    Raises:
        MasterKeyUnusable: it cannot be written, or a file is there already.
    """
    fresh = path.with_name(f"{path.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key.text + "\n")
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a rename, never takes the place of a key that somebody else has put there.
        path.hardlink_to(fresh)
        fresh.unlink()
        _sync(path.parent)
    except OSError as error:
        raise MasterKeyUnusable(
            f'the master key could not be written to "{path}": {error.strerror}'
        ) from error


def missing(settings: Settings, fingerprint: str) -> MasterKeyUnusable:
    """Return the error for secrets whose key is not there."""
    return MasterKeyUnusable(
        f"the server's secrets are sealed under the master key {fingerprint}, and there is no key:"
        f' no file "{settings.master_key_path}", no MERGESCALE_MASTER_KEY',
        help="put the key back from where it is kept; every server process on one database needs"
        " the same one, and no new one is made, since all clients have pinned this server's keys",
    )


def _read(path: Path) -> MasterKey | None:
    """Return the key that the file holds, None without a file."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(_LONGEST_BYTES).decode("ascii", "replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MasterKeyUnusable(
            f'the master key file "{path}" cannot be read: {error.strerror}',
            help="it must belong to the user that runs the server",
        ) from None
    # A group may read it: mounted secrets often belong to one. All others may not.
    if mode & (stat.S_IWGRP | stat.S_IRWXO):
        raise MasterKeyUnusable(
            f'the master key file "{path}" is open to others (mode {mode:04o})',
            help=f"chmod 600 {path}",
        )
    return _parse(text, f'the master key file "{path}"')


def _parse(text: str, where: str) -> MasterKey:
    try:
        return MasterKey.parse(text)
    except Invalid as error:
        raise MasterKeyUnusable(
            f"{where} holds no usable master key: {error.message}",
            help="put the key back from where it is kept; no new one is made",
        ) from None


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
