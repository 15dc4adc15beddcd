"""A sampling profile of the server while one measure runs (py-spy).

Stacks are folded, one a line with its count: speedscope and flame graphs read them, and so does ``sort``.
Sampling from outside slows the server by some percent, so figures of a profiled run are not results.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_RATE_HZ: Final = 250
#: LIMIT: py-spy wants to know how long; it is interrupted when the measure is over.
_LONGEST_S: Final = 600


@contextlib.contextmanager
def profiling(pid: int, out: Path | None) -> Iterator[None]:
    """Sample the process for the block, into `out`; None for no profile."""
    if out is None:
        yield
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [
        str(Path(sys.executable).with_name("py-spy")),
        *("record", "--pid", str(pid), "--format", "raw", "--output", str(out)),
        *("--rate", str(_RATE_HZ), "--duration", str(_LONGEST_S), "--nonblocking"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
