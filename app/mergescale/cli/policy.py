"""``mergescale policy``: checks a policy before anybody merges it; needs no server."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from mergescale.cli.errors import CommandFailed, ExitCode
from mergescale.cli.fmt import fmt
from mergescale.cli.groups import noun
from mergescale.cli.options import offline
from mergescale.cli.problems import as_json, as_text
from mergescale.cli.screen import Screen

if TYPE_CHECKING:
    from mergescale.domain.declaration import Declaration
    from mergescale.policy.diagnostics import Diagnostic

app = noun("policy", "Policy files, before they are merged; no server is needed.")
app.add_command(fmt)

_POLICY: Final = "policy.hujson"
_STDIN: Final = "-"
#: LIMIT: bytes of one file; as much as the server takes.
_FILE_BYTES: Final = 16 << 20

_path_argument: Final = click.argument("path", default=".")


@dataclass(frozen=True, slots=True)
class _Files:
    """What is checked.

    Attributes:
        texts: name in the repository -> text.
        shown: name in the repository -> as the person named it.
    """

    texts: Mapping[str, str]
    shown: Mapping[str, str]


@app.command("check")
@_path_argument
@offline
def check(screen: Screen, path: str) -> None:
    """Say everything that is wrong with a policy and the files beside it.

    PATH is a folder with a policy.hujson, one of its files, a policy alone, or - for a policy on
    standard input; this folder if nothing is said.

    Does not run the policy's tests; `mergescale policy test` does. Exit code 1 if it is refused.
    """
    files = _read(path)
    declaration, found = _declare(files)
    _tell(screen, files, found)
    if declaration is None:
        raise _refused(found)
    if not screen.is_json:
        names = ", ".join(files.shown[name] for name in sorted(files.texts))
        screen.done(f"{names}: no errors{_warnings(found)}")


@app.command("test")
@_path_argument
@offline
def run_tests(screen: Screen, path: str) -> None:
    """Run the tests that a policy holds; PATH is as for `check`.

    Exit code 3 if one fails, 1 if the policy is refused before.
    """
    from mergescale.policy.compiled import CompiledPolicy
    from mergescale.policy.diagnostics import Severity
    from mergescale.policy.repository import selftest

    files = _read(path)
    declaration, found = _declare(files)
    if declaration is None:
        _tell(screen, files, found)
        raise _refused(found)
    said = selftest(declaration)
    _tell(screen, files, said)
    failed = [one for one in said if one.severity is Severity.ERROR]
    policy = declaration.policy
    cases = policy.document.tests if isinstance(policy, CompiledPolicy) else ()
    logins = policy.document.ssh_tests if isinstance(policy, CompiledPolicy) else ()
    total = sum(len(one.accept) + len(one.deny) for one in cases)
    total += sum(len(one.accept) + len(one.check) + len(one.deny) for one in logins)
    if failed:
        raise CommandFailed(
            f"{len(failed)} of {_count(total, 'expectation')} failed", exit_code=ExitCode.BAD_NEWS
        )
    if total == 0:
        screen.done("the policy holds no tests")
    else:
        screen.done(
            f"{_count(total, 'expectation')} of {_count(len(cases) + len(logins), 'test')} passed"
        )


def _read(path: str) -> _Files:
    if path == _STDIN:
        return _Files(
            {_POLICY: _text(sys.stdin.buffer.read(_FILE_BYTES + 1), _STDIN)}, {_POLICY: _STDIN}
        )
    place = Path(path)
    if place.is_dir():
        return _folder(place)
    if not place.exists():
        raise CommandFailed(f'"{path}" does not exist', help="name a folder or a policy file")
    if (place.parent / _POLICY).is_file() and place.name in _names():
        return _folder(place.parent)
    return _Files({_POLICY: _load(place)}, {_POLICY: str(place)})


def _names() -> tuple[str, ...]:
    from mergescale.policy.repository import FILES

    return FILES


def _folder(folder: Path) -> _Files:
    """Read what the server would read of a folder."""
    found = sorted(
        one
        for form in ("*.hujson", "policy.d/*.hujson")
        for one in folder.glob(form)
        if one.is_file()
    )
    if not found:
        raise CommandFailed(
            f'there is no {_POLICY} in "{folder}"', help="name the folder that holds the policy"
        )
    return _Files(
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


def _declare(files: _Files) -> tuple[Declaration | None, tuple[Diagnostic, ...]]:
    # Takes longer to import than other commands take at all.
    from mergescale.policy.repository import declare

    return declare(files.texts, tested=False)


def _tell(screen: Screen, files: _Files, found: tuple[Diagnostic, ...]) -> None:
    if screen.is_json:
        screen.json([as_json(_as_named(files, one)) for one in found])
        return
    for one in found:
        screen.line(as_text(_as_named(files, one), files.texts.get(one.span.file, "")))


def _as_named(files: _Files, one: Diagnostic) -> Diagnostic:
    """Return a diagnostic whose file is named as the person named it."""
    return replace(one, span=replace(one.span, file=files.shown.get(one.span.file, one.span.file)))


def _refused(found: tuple[Diagnostic, ...]) -> CommandFailed:
    from mergescale.policy.diagnostics import Severity

    errors = sum(one.severity is Severity.ERROR for one in found)
    return CommandFailed(f"the policy is refused: {_count(errors, 'error')}")


def _warnings(found: tuple[Diagnostic, ...]) -> str:
    return f", {_count(len(found), 'warning')}" if found else ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
