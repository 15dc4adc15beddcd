"""What is counted of a commit in quarantine, before anything of it is read.

Git has checked the form of every object by then (``fetch.fsckObjects``), and that nothing is
missing; names like ``.git`` in any of their spellings do not pass that.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from mergescale.gitops.git.bare import Store
from mergescale.gitops.git.excess import TooMuch
from mergescale.gitops.git.limits import Limits

#: SPEC(gitformat-pack): "PACK", version, number of objects; big-endian.
_HEADER: Final = struct.Struct(">4sII")


def check(store: Store, commit: str, limits: Limits) -> None:
    """Count what a commit brings along.

    Args:
        store: a quarantine that has it.
        commit: its id.
        limits: how much is accepted.

    Raises:
        TooMuch: a limit is passed.
        GitFailed: git could not look.
    """
    objects = sum(map(_objects, (store.path / "objects" / "pack").glob("pack-*.pack")))
    if objects > limits.objects:
        found = f"{objects} objects were transferred at once"
        raise TooMuch("objects", found, limits.objects)
    # Each commit is an object, so few objects need no counting.
    if objects > limits.commits and store.commits(commit, limits.commits) > limits.commits:
        raise TooMuch("commits", "the history has more commits", limits.commits)
    _walk(store, commit, limits)


def _objects(pack: Path) -> int:
    """Return how many objects a pack has, as its header says and git has verified."""
    with pack.open("rb") as start:
        count: int = _HEADER.unpack(start.read(_HEADER.size))[2]
    return count


def _walk(store: Store, commit: str, limits: Limits) -> None:
    """Go through the names of a commit; a tree of trees may hold more than could ever be listed."""
    entries, rest = 0, b""
    listing = store.names(commit)
    try:
        for piece in listing:
            *names, rest = (rest + piece).split(b"\0")
            entries += len(names)
            if entries > limits.files:
                raise TooMuch("files", "the commit has more files and folders", limits.files)
            for name in (*names, rest):
                if len(name) > limits.path_bytes:
                    found = f"a path has more than {limits.path_bytes} bytes"
                    raise TooMuch("path_bytes", found, limits.path_bytes)
                if name.count(b"/") >= limits.depth:
                    found = f"folders are nested {name.count(b'/') + 1} deep"
                    raise TooMuch("depth", found, limits.depth)
    finally:
        listing.close()
