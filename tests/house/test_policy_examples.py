"""Every policy example is a valid, tidy repository whose own tests pass, and the README tells it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from mergescale.policy import hujson
from mergescale.policy.repository import FRAGMENTS, POLICY, SUFFIX, declare, is_ours
from mergescale.policy.schemas import published

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "policy_examples"
#: What is beside the numbered ones is no policy.
FOLDERS = sorted(path for path in EXAMPLES.glob("[0-9]*") if path.is_dir())
SCHEMAS = {
    name: Draft202012Validator(json.loads(text), format_checker=None) for name, text in published()
}
every_example = pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)


def files_of(folder: Path) -> dict[str, str]:
    """Return the files as a server that watches the folder finds them."""
    return {
        path.relative_to(folder).as_posix(): path.read_text("utf-8")
        for path in folder.rglob(f"*{SUFFIX}")
    }


@every_example
def test_example_is_valid_and_tested(folder: Path) -> None:
    """It is read without a single diagnostic, and each part of the policy has tests that pass."""
    files = files_of(folder)

    declaration, diagnostics = declare(files)

    assert [f"{d.span.file}:{d.span.start_line}: {d.message}" for d in diagnostics] == []
    assert declaration is not None
    assert all(is_ours(name) for name in files)
    parts = [text for name, text in files.items() if name == POLICY or name.startswith(FRAGMENTS)]
    assert all('"tests"' in text for text in parts)
    assert all('"sshTests"' in text for text in parts if '"ssh"' in text)
    assert (folder / "README.md").read_text("utf-8").startswith(f"# {folder.name[:2]}: ")


@every_example
def test_example_is_laid_out_as_policy_fmt_does(folder: Path) -> None:
    """`mergescale policy fmt` would change nothing."""
    files = files_of(folder)
    assert {name: hujson.format(text) for name, text in files.items()} == files


@every_example
def test_editors_underline_nothing_in_an_example(folder: Path) -> None:
    """Each file is what its published schema says."""
    for name, text in files_of(folder).items():
        value, _ = hujson.parse(text, name)
        assert value is not None
        kind = POLICY if name.startswith(FRAGMENTS) else name
        schema = SCHEMAS[f"{kind.removesuffix(SUFFIX)}.schema.json"]
        assert [f"{name}: {one.message}" for one in schema.iter_errors(value.plain())] == []


def test_the_readme_tells_each_story_in_a_sentence() -> None:
    """All of them, in order, each with a link to its folder."""
    told = re.findall(
        r"^\* \[.+\]\(policy_examples/([^)]+)\): \S.*\.$",
        (ROOT / "README.md").read_text("utf-8"),
        re.MULTILINE,
    )
    assert told == [folder.name for folder in FOLDERS]


def test_there_are_twelve_stories() -> None:
    """Numbered without a gap."""
    assert [path.name[:2] for path in FOLDERS] == [f"{number:02}" for number in range(1, 13)]
