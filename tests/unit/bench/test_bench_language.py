"""The measures of the policy language, on a company that is small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.company import DOMAIN, Company, introduced
from bench.measures import language
from bench.results import Figure, write
from mergescale.domain.declaration import Declaration
from mergescale.netmap.inventory import populate
from mergescale.policy import hujson
from mergescale.policy.load import load

SMALL = Company(120, 60)


def test_every_measure_is_taken() -> None:
    """Three at each size and one of the large text, each of a process of its own a round."""
    figures = language.whole([SMALL.nodes], SMALL, 1)

    assert [(one.name, one.clients, one.unit, len(one.values)) for one in figures] == [
        ("filters and visibility of all, 200 rules", 120, "s", 1),
        ("resident memory then, 200 rules", 120, "MB", 1),
        ("edit of one of 200 rules", 120, "s", 1),
        ("parse and check a large policy", 120, "s", 1),
    ]
    assert all(value > 0 for one in figures for value in one.values)
    assert figures[-1].note.startswith(f"{len(hujson.format(SMALL.policy()).encode()):,} bytes, ")


def test_the_reaches_are_those_of_the_issue() -> None:
    """What is asked of 1,000 and of 10,000 nodes, and of a text that is a megabyte once it is laid out."""
    assert language.REACH == {1_000: (200, 0.25, None), 10_000: (500, 2.5, 500)}
    assert 900_000 <= len(language.LARGE_TEXT.policy()) <= 1_000_000


def test_a_company_has_all_that_is_slow() -> None:
    """Devices' own, chosen routers, postures and capabilities, under a policy without errors."""
    value, found = hujson.parse(SMALL.policy(), "policy.hujson")
    assert value is not None
    policy, said = load(value, domain=DOMAIN)
    assert policy is not None, said
    assert found == ()
    assert SMALL.policy() == Company(120, 60).policy() != SMALL.policy(edited=7)

    rules = policy.document.rules
    assert [bool(policy.own_rules), policy.document.tests] == [True, ()]
    assert all(any(getattr(one, name) for one in rules) for name in ("via", "postures", "holders"))
    snapshot = introduced(populate(SMALL.inventory(), Declaration(policy)))
    assert len(snapshot.nodes) == 120
    assert {b'"macOS"' in one.hostinfo for one in snapshot.nodes.values()} == {True, False}
    seen = sum(snapshot.access.visible(slot).bit_count() for slot in snapshot.slots.of.values())
    assert seen > 120


def test_an_edit_that_concerns_nobody_is_no_measure() -> None:
    """A company without rules in between is refused, instead of a fast figure."""
    with pytest.raises(language.WrongPolicy, match="nobody, or everybody"):
        language.whole([1], SMALL, 1)


def test_a_section_of_the_results_leaves_the_others(tmp_path: Path) -> None:
    """And the figures of servers leave the section."""
    out = tmp_path / "results.json"
    write(out, [Figure("of a server", 1, (1.0,), "s")], "2026-01-01")
    write(out, [Figure("of the language", 1, (2.0,), "s")], "2026-01-02", section="policy")
    write(out, [Figure("of a server", 1, (3.0,), "s")], "2026-01-03")

    said = json.loads(out.read_text("utf-8"))
    found = [
        (part["date"], [(one["name"], one["values"]) for one in part["figures"]])
        for part in (said, said["policy"])
    ]
    assert found == [
        ("2026-01-03", [("of a server", [3.0])]),
        ("2026-01-02", [("of the language", [2.0])]),
    ]
