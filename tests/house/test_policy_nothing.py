"""The table of what absent, null, [], {} and comments mean: each of its cells is tried."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from mergescale.policy.check import _SECTIONS
from mergescale.policy.compiled import CompiledPolicy
from mergescale.policy.repository import FILES, declare

TABLE = (Path(__file__).parents[2] / "policy_examples" / "README.md").read_text("utf-8")
FORMS: Final = ("absent", "null", "[]", "{}", "comments only")
ROWS = {
    name: [cell.strip() for cell in cells.split("|")]
    for name, cells in re.findall(r"^\| `([\w.$]+)` \| (.*) \|$", TABLE, re.MULTILINE)
}
CELLS = [
    (name, form, cell)
    for name, cells in ROWS.items()
    for form, cell in zip(FORMS, cells, strict=True)
]
#: What each word of the table says of the diagnostics.
CODES: Final = {
    "nothing": set(),
    "wrong": {"policy.type", "schema"},
    "no rules": {"policy.no-rules"},
    "no file": {"repository.no-policy"},
    "unreadable": {"hujson.syntax", "hujson.text"},
}
RULES = {"acls", "grants"}


def test_the_table_has_every_section_and_every_file() -> None:
    """Whatever a policy or a repository may hold has its line."""
    assert set(ROWS) == {*_SECTIONS, *FILES}


def written(name: str, form: str) -> dict[str, str]:
    """Return the repository of a cell."""
    if name.endswith(".hujson"):
        text = {"absent": None, "comments only": "// nothing\n"}.get(form, form)
        return {"policy.hujson": '{"acls": []}'} | ({} if text is None else {name: text})
    comment = "/* nothing */"
    empty = {row: "[]" for row, cells in ROWS.items() if cells[2] == "nothing"}
    empty |= {row: "{}" for row, cells in ROWS.items() if cells[3] == "nothing"}
    brackets = empty.get(name, "")
    inside = f"{brackets[:1]}{comment}{brackets[1:]}"
    value = {"absent": None, "comments only": inside}.get(form, form)
    other = "" if name in RULES else '"acls": [],'
    return {"policy.hujson": "{" + other + ("" if value is None else f'"{name}": {value}') + "}"}


@pytest.mark.parametrize(("name", "form", "cell"), CELLS)
def test_a_cell_of_the_table_is_so(name: str, form: str, cell: str) -> None:
    """An error has the code that the word stands for; nothing is what the policy is without it."""
    files = written(name, form)
    if (name, form) == ("policy.hujson", "absent"):
        files = {}
    declaration, found = declare(files)

    assert {one.code for one in found} <= CODES[cell]
    assert (declaration is not None) is (cell == "nothing") is not bool(found)
    if declaration is not None:
        assert isinstance(declaration.policy, CompiledPolicy)
        plain, _ = declare({"policy.hujson": '{"acls": []}'})
        assert plain is not None
        assert isinstance(plain.policy, CompiledPolicy)
        assert declaration.policy.rules == plain.policy.rules == ()
        assert replace(declaration.policy.document, relays=None) == plain.policy.document
        assert declaration.relays == plain.relays
