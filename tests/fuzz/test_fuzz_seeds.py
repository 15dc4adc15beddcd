"""Every committed input of the fuzz targets, once: the corpus, and all that fuzzing ever found."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.targets import TARGETS

HERE = Path(__file__).parent
SEEDS = sorted(path for path in (HERE / "seeds").glob("*/*") if path.is_file())


@pytest.mark.parametrize("seed", SEEDS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_seed_is_no_crash(seed: Path) -> None:
    """A peer's bytes are its own fault or all right, and never an error of ours."""
    TARGETS[seed.parent.name](seed.read_bytes())


def test_every_target_has_seeds() -> None:
    """Without honest inputs a fuzzer hardly gets past the first check."""
    assert {path.parent.name for path in SEEDS} == set(TARGETS)
    assert all(sum(path.parent.name == name for path in SEEDS) >= 4 for name in TARGETS)
