"""What Linux says of a process, or of one with all that it started: processor time, memory."""

from __future__ import annotations

import os
import time
from pathlib import Path

_TICKS_HZ = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def cpu_s(pid: int) -> float:
    """Return the processor time of all threads of a process, user and system, in seconds.

    The clock of another process (clock_getcpuclockid(3)) counts nanoseconds; /proc counts ticks.
    """
    return time.clock_gettime(~pid << 3 | 2)


def waited_s(pid: int) -> float:
    """Return how long the process's first thread could have run but had no core, in seconds."""
    return int(Path(f"/proc/{pid}/schedstat").read_text("ascii").split()[1]) / 1e9


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * _PAGE_BYTES


def family_cpu_s(pid: int) -> float:
    """Return the processor time of a process, its children, and those that are no more, in seconds."""
    # proc(5): after the name in brackets, field 3 is first; 14 to 17 are its own and its dead children's.
    fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    dead_s = sum(map(int, fields[13:15])) / _TICKS_HZ
    return cpu_s(pid) + dead_s + sum(map(_cpu_or_none_s, children(pid)))


def family_bytes(pid: int) -> int:
    """Return the resident memory of a process and its children; what they share counts once."""
    return sum(map(_proportional_bytes, [pid, *children(pid)]))


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and that still run."""
    return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat") if _of(path) == pid]


def _of(stat: Path) -> int:
    """Return whose child a process is; 0 when it is gone."""
    try:
        return int(stat.read_text("ascii", "replace").rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _cpu_or_none_s(pid: int) -> float:
    try:
        return cpu_s(pid)
    except OSError:  # ended since; then its parent's account has it
        return 0.0


def _proportional_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) * 1024


def processor() -> str:
    """Return the processor's name."""
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return "unknown"
