"""What the reference implementation makes of texts; README.md beside this file says how."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mergescale.policy import hujson

Line = dict[str, str]
HERE = Path(__file__).parent
LINES = [
    pytest.param(json.loads(line), id=f"{path.stem}-{number}")
    for path in sorted(HERE.glob("*.jsonl"))
    for number, line in enumerate(path.read_text("ascii").splitlines(), 1)
]
REWRITES: dict[str, hujson.Rewrite] = {
    "format": hujson.format,
    "standardize": hujson.standardize,
    "minimize": hujson.minimize,
}


@pytest.mark.parametrize("line", LINES)
def test_a_text_becomes_what_the_reference_makes_of_it(line: Line) -> None:
    """Byte for byte; what it refuses is refused here too, with a place."""
    assert line.keys() in ({"in"}, {"in", *REWRITES})
    if line.keys() == {"in"}:
        assert hujson.parse(line["in"], "")[1] != ()
        for rewrite in REWRITES.values():
            with pytest.raises(hujson.Unreadable):
                rewrite(line["in"])
    else:
        made = {name: rewrite(line["in"]) for name, rewrite in REWRITES.items()}
        assert {"in": line["in"], **made} == line


def test_there_is_a_corpus() -> None:
    """All of the reference's own vectors, and more than as many others."""
    assert len(LINES) == 275
