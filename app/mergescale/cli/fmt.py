"""``mergescale policy fmt``: lays policy files out as the hosted service's own tools do."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from mergescale.cli.errors import CommandFailed
from mergescale.cli.options import offline
from mergescale.cli.problems import as_json, as_text
from mergescale.cli.screen import Screen, printable

if TYPE_CHECKING:
    from mergescale.policy.diagnostics import Diagnostic

_STDIN: Final = "-"
_PATTERNS: Final = ("*.hujson", "policy.d/*.hujson")


@dataclass(frozen=True, slots=True)
class _File:
    """One file and what becomes of it.

    Attributes:
        name: as the person named it, or as it was found in a folder that the person named.
        after: its text laid out; the same text if it cannot be.
        found: why it cannot be.
    """

    name: str
    before: str
    after: str
    found: tuple[Diagnostic, ...] = ()

    @property
    def differs(self) -> bool:
        """Say whether the text is not laid out well."""
        return self.after != self.before


@click.command("fmt")
@click.argument("paths", metavar="[PATH|-]...", nargs=-1)
@click.option("--check", is_flag=True, help="Change nothing; list the files that would change.")
@offline
def fmt(screen: Screen, paths: tuple[str, ...], *, check: bool) -> None:
    """Lay policy files out, in place, and list those that changed.

    PATH is a file, or a folder, which stands for the *.hujson in it and in its policy.d; this
    folder if nothing is said. For - the text comes from standard input and goes to standard output.

    Changes white space, trailing commas and the spelling of escapes, never values or comments; the
    result is that of Tailscale's own formatter. A file that cannot be read is shown and left alone.

    Exit code 1 if there is one, or if --check finds one to be changed.
    """
    files = [_laid_out(name) for name in dict.fromkeys(_names(paths or (".",)))]
    if not check:
        for file in files:
            if file.name == _STDIN and not file.found:
                screen.out.write(file.after)
            elif file.differs:
                _replace(Path(file.name), file.after)
    # The text of standard input is the whole answer, unless there is a question or a problem.
    if told := [one for one in files if check or one.found or one.name != _STDIN]:
        _tell(screen, told)
    _fail(files, check=check)


def _names(paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        if path == _STDIN or not Path(path).is_dir():
            yield path
            continue
        found = {one for pattern in _PATTERNS for one in Path(path).glob(pattern) if one.is_file()}
        if not found:
            raise CommandFailed(
                f'there is no policy file in "{path}"', help="name a folder that holds *.hujson"
            )
        yield from map(str, sorted(found))


def _laid_out(name: str) -> _File:
    from mergescale.policy import hujson
    from mergescale.policy.diagnostics import has_errors

    text = _read(name, hujson.MAX_TEXT_BYTES)
    _, found = hujson.parse(text, name)
    if has_errors(found):
        return _File(name, text, text, found)
    try:
        return _File(name, text, hujson.format(text))
    except hujson.Unreadable as error:
        return _File(name, text, text, tuple(_of(name, one) for one in error.diagnostics))


def _of(name: str, one: Diagnostic) -> Diagnostic:
    return replace(one, span=replace(one.span, file=name))


def _read(name: str, limit_bytes: int) -> str:
    """Return a text; what is no UTF-8 stays visible to `hujson.parse`."""
    try:
        if name == _STDIN:
            raw = sys.stdin.buffer.read(limit_bytes + 1)
        else:
            with Path(name).open("rb") as file:
                raw = file.read(limit_bytes + 1)
    except OSError as error:
        raise CommandFailed(f'"{name}" cannot be read: {error.strerror}') from error
    return raw.decode("utf-8", "surrogateescape")


def _replace(path: Path, text: str) -> None:
    """Write a file so that whoever reads it sees the old text or the new one, and nothing else."""
    # Takes long to import, and is needed only here.
    import tempfile

    # The file itself, where a link leads to it.
    path = path.resolve()
    try:
        before = path.stat()
        number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(number)
                os.fchmod(number, before.st_mode & 0o7777)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CommandFailed(f'"{path}" cannot be written: {error.strerror}') from error


def _tell(screen: Screen, files: list[_File]) -> None:
    """Name the files that are not laid out well; show what is wrong with those that cannot be."""
    if screen.is_json:
        screen.json(
            [
                {
                    "file": one.name,
                    "formatted": not (one.differs or one.found),
                    "diagnostics": [as_json(each) for each in one.found],
                }
                for one in files
            ]
        )
        return
    for one in files:
        if one.differs:
            screen.line(printable(one.name))
        for each in one.found:
            # Not among the answers: a script takes those for names of files, or for the text.
            screen.hint(as_text(each, one.before))


def _fail(files: list[_File], *, check: bool) -> None:
    unread = sum(bool(one.found) for one in files)
    differ = sum(one.differs for one in files) if check else 0
    if unread:
        raise CommandFailed(f"{_count(unread)} cannot be formatted")
    if differ:
        raise CommandFailed(
            f"{_count(differ)} {'is' if differ == 1 else 'are'} not formatted",
            help="`mergescale policy fmt` formats what it is given",
        )


def _count(files: int) -> str:
    return "1 file" if files == 1 else f"{files} files"
