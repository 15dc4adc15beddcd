"""Gates and freeze windows as operators write them."""

from __future__ import annotations

from datetime import UTC, date, time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from mergescale.gitops.freeze import Window
from mergescale.gitops.gates import Safeguards
from mergescale.plan.gates import Demand, Limits
from mergescale.server.safeguards import safeguards
from mergescale.server.settings import Repository, Settings

WRITTEN = """
[tailnets.default]
url = "/srv/git/policy.git"

[tailnets.default.gates]
lockout = false
blast_percent = 20
tests = "require"

[[tailnets.default.freeze]]
days = ["Friday"]
from = "18:00"
to = "24:00"
timezone = "Europe/Berlin"
reason = "no deploys on Friday evenings"

[[tailnets.default.freeze]]
first = "2026-12-20"
last = "2027-01-02"
"""


def test_they_are_read_from_the_configuration_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times, days and zones; what is not said is every day, the whole day, UTC."""
    (tmp_path / "mergescale.toml").write_text(WRITTEN)
    monkeypatch.setenv("MERGESCALE_CONFIG", str(tmp_path / "mergescale.toml"))
    repository = Settings().repositories["default"]
    assert repository is not None

    assert safeguards(repository.gates, repository.freeze) == Safeguards(
        Limits(empty=True, lockout=False, blast_percent=20, tests=Demand.REQUIRE),
        (
            Window(
                frozenset({4}),
                time(18),
                time(0),
                ZoneInfo("Europe/Berlin"),
                "no deploys on Friday evenings",
            ),
            Window(
                frozenset(range(7)),
                time(0),
                time(0),
                UTC,
                first=date(2026, 12, 20),
                last=date(2027, 1, 2),
            ),
        ),
    )


def test_without_a_word_the_gates_have_their_defaults_and_nothing_is_frozen() -> None:
    """Those of `plan.gates.Limits`."""
    plain = Repository(url="/srv/git/policy.git")

    assert safeguards(plain.gates, plain.freeze) == Safeguards()


@pytest.mark.parametrize(
    ("section", "word"),
    [
        ({"freeze": [{"timezone": "Europe/Atlantis"}]}, "no time zone of this machine"),
        ({"freeze": [{"days": ["someday"]}]}, "'monday'"),
        ({"freeze": [{"from": "25:00"}]}, "time"),
        ({"freeze": [{"from": "18:00+02:00"}]}, "the zone is `timezone`"),
        ({"freeze": [{"form": "18:00"}]}, "Extra inputs"),
        ({"gates": {"blast_percent": 101}}, "less than or equal to 100"),
        ({"freeze": [{"first": "2026-03-30", "last": "2026-03-01"}]}, "none of `days` is between"),
        (
            {"freeze": [{"first": "2026-03-03", "last": "2026-03-08", "days": ["monday"]}]},
            "none of `days` is between",
        ),
        ({"freeze": [{"first": date.max, "last": "2026-03-08"}]}, "none of `days` is between"),
        ({"gates": {"blast_percent": "nan"}}, "100"),
        ({"gates": {"emtpy": False}}, "Extra inputs"),
        ({"gates": {"tests": "sometimes"}}, "'require'"),
    ],
)
def test_what_cannot_be_meant_is_refused(section: dict[str, object], word: str) -> None:
    """With the word that says why."""
    with pytest.raises(ValidationError, match="(?s).*" + word):
        Repository.model_validate({"url": "/srv/git/policy.git", **section})
