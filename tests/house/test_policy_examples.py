"""Every policy example is a valid repository whose own tests pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergescale.policy.repository import declare

EXAMPLES = Path(__file__).parents[2] / "policy_examples"
FOLDERS = sorted(path for path in EXAMPLES.iterdir() if path.is_dir())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_example_is_valid_and_tested(folder: Path) -> None:
    """It is read without a single diagnostic, and it has tests of its own and a story."""
    files = {path.name: path.read_text("utf-8") for path in folder.glob("*.hujson")}

    declaration, diagnostics = declare(files)

    assert [d.message for d in diagnostics] == []
    assert declaration is not None
    assert '"tests"' in files["policy.hujson"]
    assert (folder / "README.md").read_text("utf-8").startswith("# ")


def test_there_are_examples() -> None:
    """The folder is not empty, so the test above runs."""
    assert FOLDERS
