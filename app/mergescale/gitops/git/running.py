"""Runs one git command and reads what it prints, never more than it was granted."""

from __future__ import annotations

import os
import selectors
from collections.abc import Generator, Iterator, Sequence
from subprocess import Popen
from typing import Final

from git.cmd import Git
from git.exc import GitCommandNotFound

#: LIMIT: what a remote may say on stderr, and how much of its start and its end is kept.
_MOST_SAID: Final = 16 << 20
_KEPT: Final = 64 << 10
_PIECE: Final = 1 << 16


class GitFailed(Exception):
    """A git call that ended badly.

    Attributes:
        stderr: for classification, never for people.
        status: exit code; that of a signal is below 0.
    """

    def __init__(self, stderr: str, status: int = 0) -> None:
        super().__init__("git failed")
        self.stderr = stderr
        self.status = status


class Talkative(GitFailed):
    """Git, or the remote through it, printed more than it was granted.

    Attributes:
        most: bytes that it was granted.
    """

    def __init__(self, most: int) -> None:
        super().__init__("printed too much")
        self.most = most


def run(git: Git, words: Sequence[str], *, stdin: int | None = None, most: int) -> bytes:
    """Return what a command prints on stdout.

    Args:
        git: knows the folder and the environment.
        words: all arguments, the first is not ``git``.
        stdin: file descriptor; nothing is read without one.
        most: bytes that it may print.

    Raises:
        GitFailed: it did not end well, or there is no git.
        Talkative: it printed more.
    """
    return b"".join(stream(git, words, stdin=stdin, most=most))


def stream(
    git: Git, words: Sequence[str], *, stdin: int | None = None, most: int
) -> Generator[bytes, None, None]:
    """Yield the same in pieces; whoever stops reading ends the command."""
    process, said = _started(git, words, stdin), _Said()
    try:
        yield from _pieces(process, said, most)
    except BaseException:
        process.kill()
        raise
    finally:
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        status = process.wait()
    if status:
        # What a signal ends says nothing by itself.
        dead = f"\nended by signal {-status}" if status < 0 else ""
        raise GitFailed(said.text + dead, status)


def _started(git: Git, words: Sequence[str], stdin: int | None) -> Popen[bytes]:
    try:
        # Signals that Python ignores stay ignored: a file that grows past its limit is an error
        # that git reports, not its silent end.
        owner = git.execute(
            ["git", *words], istream=stdin, as_process=True, shell=False, restore_signals=False
        )
    except GitCommandNotFound:
        raise GitFailed("git is not installed") from None
    # GitPython ends the process together with its own object of it; from here on it is ours.
    process, owner.proc = owner.proc, None
    assert process is not None  # noqa: S101 - it was just started
    return process


class _Said:
    """The start and the end of what was printed on stderr."""

    def __init__(self) -> None:
        self._start = b""
        self._end = b""
        self._size = 0

    def add(self, piece: bytes) -> None:
        """Take more.

        Raises:
            Talkative: it is too much by now.
        """
        self._size += len(piece)
        if self._size > _MOST_SAID:
            raise Talkative(_MOST_SAID)
        room = _KEPT - len(self._start)
        self._start += piece[:room]
        self._end = (self._end + piece[room:])[-_KEPT:]

    @property
    def text(self) -> str:
        return (self._start + self._end).decode(errors="replace")


def _pieces(process: Popen[bytes], said: _Said, most: int) -> Iterator[bytes]:
    """Yield stdout while stderr is read along, so that neither pipe fills up."""
    size = 0
    with selectors.DefaultSelector() as waiting:
        for pipe in filter(None, (process.stdout, process.stderr)):
            waiting.register(pipe, selectors.EVENT_READ)
        while waiting.get_map():
            for key, _ in waiting.select():
                piece = os.read(key.fd, _PIECE)
                if not piece:
                    waiting.unregister(key.fileobj)
                elif key.fileobj is process.stderr:
                    said.add(piece)
                else:
                    size += len(piece)
                    if size > most:
                        raise Talkative(most)
                    yield piece
