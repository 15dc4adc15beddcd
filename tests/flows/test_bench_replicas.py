"""The section of replicas of ``make bench``, with few clients."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from bench.measures.replicas import FIRST_THERE, HERE, LAST_THERE

# Three servers and PostgreSQL start, and each measure waits for silence.
pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
WORDS = ("--part", "replicas", "--clients", "20", "--rounds", "1", "--idle", "0.1")


@pytest.mark.usefixtures("postgres")
def test_one_replica_and_two_are_measured(tmp_path: Path) -> None:
    """Both have every figure, of each process where there is one of each; two have the way between."""
    out = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, "-m", "bench", *WORDS, "--out", str(out)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    values: dict[int, dict[str, list[float]]] = defaultdict(dict)
    for figure in json.loads(out.read_text("utf-8"))["figures"]:
        values[figure["replicas"]][figure["name"]] = figure["values"]
    assert values.keys() == {1, 2}
    assert values[2].keys() - values[1].keys() == {FIRST_THERE, LAST_THERE}
    assert values[1].keys() < values[2].keys()
    assert [len(values[count]["resident memory"]) for count in (1, 2)] == [1, 2]
    (first,), (last,) = values[2][FIRST_THERE], values[2][LAST_THERE]
    assert 0 < first <= last
    assert values[1][HERE] > [0]
    assert all(values[count]["slowest API answer meanwhile"] > [0] for count in (1, 2))
