"""Runs every case of the corpus; README.md beside this file says what a case holds."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from support.policies import diagnose, filter_of, governed, sees, underlined
from support.worlds import routed

Case = dict[str, Any]
HERE = Path(__file__).parent
CASES = [
    pytest.param(case, id=f"{path.stem}: {case['name']}")
    for path in sorted(HERE.glob("*.toml"))
    for case in tomllib.loads(path.read_text("utf-8"))["case"]
]
KEYS = {"name", "policy", "nodes", "routes", "want_filter", "want_sees", "want_diagnostics"}


@pytest.mark.parametrize("case", CASES)
def test_policy_means_what_the_case_says(case: Case) -> None:
    """Filters, visibility and diagnostics are exactly those of the case."""
    wants = [case.get(key) for key in sorted(KEYS) if key.startswith("want_")]
    assert any(want is not None for want in wants), "the case expects nothing"
    assert case.keys() <= KEYS, "the case has a key that nobody reads"

    text = case["policy"]
    if "want_diagnostics" in case:
        _, found = diagnose(text)
        told = [[one.code, underlined(text, one), one.message] for one in found]
        assert told == case["want_diagnostics"]
    if "nodes" not in case:
        return
    world = governed(case["nodes"], text)
    for name, prefixes in case.get("routes", {}).items():
        world = routed(world, name, *prefixes)
    for name, rules in case.get("want_filter", {}).items():
        assert sorted(_line(*rule) for rule in filter_of(world, name)) == sorted(rules), name
    for name, others in case.get("want_sees", {}).items():
        assert sees(world, name) == set(others), name


def _line(sources: list[str], places: list[str], protocols: list[int]) -> str:
    parts = [" ".join(sources), " ".join(places), " ".join(map(str, protocols))]
    return " > ".join(part for part in parts if part)
