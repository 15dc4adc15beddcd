"""What Linux says of processes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from bench.process import children, cpu_s, family_bytes, family_cpu_s, resident_bytes

#: A child that ends after some work, another one that stays, then a word and a wait.
_FAMILY = """
(i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done) & wait
sleep 60 & echo ready; read end; kill $!
"""


@pytest.fixture
def family() -> Iterator[int]:
    """Return a process that has done nothing itself, had one child and has another."""
    with subprocess.Popen(
        ["/bin/sh", "-c", _FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
        process.communicate(b"\n")


def test_the_work_of_children_that_are_gone_counts(family: int) -> None:
    """It is in the family's processor time and not in the process's own."""
    own_s = cpu_s(family)
    assert family_cpu_s(family) > own_s + 0.02


def test_the_children_of_a_process(family: int) -> None:
    """The living ones of this process alone; a process without any has none."""
    (child,) = children(family)
    assert family in children(os.getpid())
    assert children(child) == []


def test_the_memory_of_a_family_counts_what_is_shared_once(family: int) -> None:
    """More than nothing, less than the sum of what is resident in each."""
    resident = sum(map(resident_bytes, [family, *children(family)]))
    assert 0 < family_bytes(family) < resident
