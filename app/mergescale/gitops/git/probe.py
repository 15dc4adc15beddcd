"""Has a ref of a repository on this machine moved? Answered by stat, without git.

Git replaces files when it moves a ref (gitrepository-layout): the loose ref, ``packed-refs`` or the
list of reftables. Their identity and times are enough to know that looking again is worth it.
"""

from __future__ import annotations

from pathlib import Path

Fingerprint = tuple[tuple[int, int, int] | None, ...]


def fingerprint(repository: Path, ref: str) -> Fingerprint:
    """Return something that differs once the ref has moved.

    Args:
        repository: a bare repository, or a folder with ``.git``.
        ref: full name, e.g. ``refs/heads/main``, or a folder of them, e.g. ``refs/tags``.
    """
    git_dir = _git_dir(repository)
    places = (git_dir / ref, git_dir / "packed-refs", git_dir / "reftable/tables.list")
    return (_presence(repository), *map(_identity, places))


def _git_dir(repository: Path) -> Path:
    """Return where the shared refs are; a linked worktree has them elsewhere."""
    git_dir = repository / ".git"
    if git_dir.is_file():
        git_dir = repository / _line(git_dir).removeprefix("gitdir: ")
    elif not git_dir.is_dir():
        git_dir = repository
    common = git_dir / "commondir"
    return git_dir / _line(common) if common.is_file() else git_dir


def _line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            return lines.readline(4096).rstrip("\n")
    except OSError:
        return ""


def _presence(place: Path) -> tuple[int, int, int] | None:
    """Return the same for the repository's own folder, whose times change with every file in it."""
    found = _identity(place)
    return None if found is None else (found[0], 0, 0)


def _identity(place: Path) -> tuple[int, int, int] | None:
    """Return inode, change time in ns and size; None when there is nothing.

    Of a folder they change when a name in it comes, goes or is replaced.
    """
    try:
        found = place.stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns, found.st_size
