"""The policy files that a command is about, read as the server would read them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from mergescale.cli.errors import CommandFailed

if TYPE_CHECKING:
    from mergescale.domain.declaration import Declaration
    from mergescale.policy.diagnostics import Diagnostic, Span

STDIN: Final = "-"
_POLICY: Final = "policy.hujson"
_FRAGMENTS: Final = "policy.d"
#: LIMIT: bytes of one file; as much as the server takes.
_FILE_BYTES: Final = 16 << 20

path_argument: Final = click.argument("path", default=".")
#: For commands whose arguments are about something else.
policy_option: Final = click.option(
    "--policy",
    "path",
    default=".",
    metavar="PATH",
    help="A folder with a policy.hujson, a policy alone, or - for standard input [.].",
)


@dataclass(frozen=True, slots=True)
class PolicyFiles:
    """What a command reads.

    Attributes:
        texts: path in the repository -> text.
        shown: path in the repository -> as the person named it.
    """

    texts: Mapping[str, str]
    shown: Mapping[str, str]

    @property
    def shown_texts(self) -> dict[str, str]:
        """Texts by the names that the person knows them by."""
        return {self.shown[name]: text for name, text in self.texts.items()}

    def as_named(self, found: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
        """Return diagnostics whose files are named as the person named them."""
        return tuple(replace(one, span=self.place(one.span)) for one in found)

    def place(self, span: Span) -> Span:
        """Return a span whose file is named as the person named it."""
        return replace(span, file=self.shown.get(span.file, span.file))

    def declare(self) -> tuple[Declaration | None, tuple[Diagnostic, ...]]:
        """Check and compile, without running tests; diagnostics have the person's names."""
        # Takes longer to import than other commands take at all.
        from mergescale.policy.repository import declare

        declaration, found = declare(self.texts, tested=False)
        return declaration, self.as_named(found)


def read_policy(path: str) -> PolicyFiles:
    """Read a folder with a policy, one of its files, a policy alone, or standard input.

    Raises:
        CommandFailed: there is nothing to read.
    """
    if path == STDIN:
        raw = sys.stdin.buffer.read(_FILE_BYTES + 1)
        return PolicyFiles({_POLICY: _text(raw, STDIN)}, {_POLICY: STDIN})
    place = Path(path)
    if place.is_dir():
        return _folder(place)
    if not place.exists():
        raise CommandFailed(f'"{path}" does not exist', help="name a folder or a policy file")
    if (place.parent / _POLICY).is_file() and place.name in _names():
        return _folder(place.parent)
    if place.parent.name == _FRAGMENTS and (place.parent.parent / _POLICY).is_file():
        return _folder(place.parent.parent)
    return PolicyFiles({_POLICY: _load(place)}, {_POLICY: str(place)})


def refused(found: Iterable[Diagnostic]) -> CommandFailed:
    """Return how a command ends whose policy has errors."""
    from mergescale.policy.diagnostics import Severity

    errors = sum(one.severity is Severity.ERROR for one in found)
    return CommandFailed(f"the policy is refused: {count(errors, 'error')}")


def count(number: int, what: str) -> str:
    """Return a number with its noun."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _names() -> tuple[str, ...]:
    from mergescale.policy.repository import FILES

    return FILES


def _folder(folder: Path) -> PolicyFiles:
    """Read what the server would read of a folder."""
    found = sorted(
        one
        for form in ("*.hujson", f"{_FRAGMENTS}/*.hujson")
        for one in folder.glob(form)
        if one.is_file()
    )
    if not found:
        raise CommandFailed(
            f'there is no {_POLICY} in "{folder}"', help="name the folder that holds the policy"
        )
    return PolicyFiles(
        {one.relative_to(folder).as_posix(): _load(one) for one in found},
        {one.relative_to(folder).as_posix(): str(one) for one in (folder / _POLICY, *found)},
    )


def _load(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return _text(file.read(_FILE_BYTES + 1), str(path))
    except OSError as error:
        raise CommandFailed(f'"{path}" cannot be read: {error.strerror}') from error


def _text(raw: bytes, name: str) -> str:
    if len(raw) > _FILE_BYTES:
        raise CommandFailed(f'"{name}" is larger than {_FILE_BYTES >> 20} MiB')
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise CommandFailed(f'"{name}" is not UTF-8: line {line}') from None
