"""The folder of the server's own store: one process at a time, and always one that works.

* ``NAME.git``: the store.
* ``NAME.git-new``: what is being fetched, in quarantine; never outlives a look.
* ``NAME.git-fresh``: a store that is being made anew.
* ``NAME.git-old``: the one that it replaces.
* ``NAME.git-lock``: held while a worker is at it; the system lets go of it with the process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

#: LIMIT: seconds that another worker of the same store is waited for, and between two tries.
_PATIENCE_S: Final = 5.0
_AGAIN_S: Final = 0.02


class Locked(Exception):
    """Another process is at the store."""


@contextlib.contextmanager
def alone(store: Path) -> Iterator[None]:
    """Be the only one at the store.

    What git leaves behind when it is killed is removed: nobody else can be using it.

    Raises:
        Locked: somebody else was all the time.
    """
    store.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = os.open(store.with_suffix(".git-lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(place)
        _tidy(store)
        yield
    finally:
        os.close(place)


def quarantine_of(store: Path) -> Path:
    """Return where what is fetched for a store is kept apart."""
    return store.with_suffix(".git-new")


def fresh_of(store: Path) -> Path:
    """Return where a store is made anew."""
    return store.with_suffix(".git-fresh")


def swap(store: Path) -> None:
    """Put the fresh store in the place of the one there is."""
    old = store.with_suffix(".git-old")
    if store.exists():
        store.replace(old)
    fresh_of(store).replace(store)
    shutil.rmtree(old, ignore_errors=True)


def _lock(place: int) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise Locked from None
            time.sleep(_AGAIN_S)
        else:
            return


def _tidy(store: Path) -> None:
    """Remove what killed processes left."""
    old = store.with_suffix(".git-old")
    if old.exists() and not store.exists():
        # Killed between the two steps of `swap`: the fresh one may be whole or not, this one is.
        old.replace(store)
    for left in (quarantine_of(store), fresh_of(store), old):
        shutil.rmtree(left, ignore_errors=True)
    for folder in (store, *_folders(store / "refs")):
        for lock in (*folder.glob("*.lock"), *folder.glob("gc.pid")):
            with contextlib.suppress(OSError):
                lock.unlink()


def _folders(place: Path) -> Iterator[Path]:
    for folder, _, _ in os.walk(place):
        yield Path(folder)
