"""What Linux says of a process: processor time, memory."""

from __future__ import annotations

import os
import time
from pathlib import Path

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


def processor() -> str:
    """Return the processor's name."""
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return "unknown"
