"""Codes of diagnostics: every one is told, and none is told that does not exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import mergescale
from mergescale.policy.codes import CODES
from support.command_line import CommandLine

PACKAGE = Path(mergescale.__file__).parent
#: How a code looks; names of files look the same.
CODE = re.compile(
    r"schema|(?:derp|dns|hujson|policy|repository|schema|tailnet|users)\.(?!hujson)[a-z][a-z-]*"
)
#: Made from the kind of a selector, in ``Scope.missing``.
MADE = {f"policy.unknown-{kind}" for kind in ("group", "tag", "host", "ipset")}


def used() -> set[str]:
    """Return the texts that are codes, those that are made included.

    ``gitops`` says what is wrong with a repository's files before anybody reads them.
    """
    found = {text for text in texts("gitops") if text.startswith("repository.")}
    return MADE | found | {text for text in texts("policy") if not text.endswith("-")}


def texts(package: str) -> Iterator[str]:
    """Yield the texts of a package that look like codes."""
    for path in (PACKAGE / package).rglob("*.py"):
        if path.name == "codes.py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Constant(str(text)) if CODE.fullmatch(text):
                    yield text


def test_every_code_is_told_and_every_told_code_is_used() -> None:
    """A new diagnostic needs a line in ``policy/codes.py``."""
    assert used() == CODES.keys()


def test_they_are_sorted_sentences() -> None:
    """In the manner of messages: lower case, no full stop, on one line."""
    assert list(CODES) == sorted(CODES)
    for meaning in CODES.values():
        assert meaning == meaning.strip()
        assert not meaning.endswith(".")
        assert "\n" not in meaning


def test_the_command_line_lists_them() -> None:
    """All of them, or one; a wrong one gets a suggestion."""
    cli = CommandLine()
    assert cli("policy", "codes", "-o", "json").json == dict(CODES)
    one = cli("policy", "codes", "policy.test")
    assert one.out.splitlines()[1].split(maxsplit=1) == ["policy.test", CODES["policy.test"]]
    wrong = cli("policy", "codes", "policy.tests")
    assert (wrong.code, wrong.out) == (1, "")
    assert wrong.err.splitlines()[1].startswith('help: did you mean "policy.test')
