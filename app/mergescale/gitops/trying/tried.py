"""The child process that works on texts of others; started by ``containment.py``, gone after one.

    python -m mergescale.gitops.trying.tried SECONDS BYTES

It limits itself before it reads what it is to do. It says that it has its input (`LOADED`), and that it
is through, with what came of it, or ran out of memory, or broke.
"""

from __future__ import annotations

import gc
import math
import os
import pickle
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Final

import structlog

from mergescale.domain.snapshot import Snapshot
from mergescale.gitops.trying.containment import BROKE, LOADED, STARVED, THROUGH, Task
from mergescale.gitops.trying.inforce import InForce
from mergescale.policy import access as _access  # noqa: F401 - imported late where it is used

#: SPEC(logging): as the standard library numbers it.
_CRITICAL: Final = 50


def main() -> None:
    """Try one commit; end of input means that nobody needs us."""
    # What the stages log is nobody's: the server says it when it repeats them, and to render what
    # ran out of memory takes more of it.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(_CRITICAL))
    answers = os.dup(sys.stdout.fileno())
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    wall_s, memory_bytes = float(sys.argv[1]), int(sys.argv[2])
    _limit(wall_s, memory_bytes)
    with open(0, "rb", closefd=False) as questions:
        if not questions.peek(1):
            return
        base = pickle.load(questions)  # noqa: S301 - the server wrote it
        gc.freeze()
        if not questions.peek(1):
            return
        task, news, held = pickle.load(questions)  # noqa: S301 - the same
    against, _ = base.apply(news)
    # Ends us when time is up, whatever we are at: the server may be gone by then.
    signal.setitimer(signal.ITIMER_REAL, wall_s + 1)
    with os.fdopen(answers, "wb") as said:
        said.write(LOADED)
        said.flush()
        said.write(_answer(task, against, held))


def _answer(task: Task, against: Snapshot, held: InForce | None) -> bytes:
    """Do it; what came of it, or what it came to."""
    try:
        return THROUGH + task.carry_out(against if held is None else held.over(against))
    except MemoryError:
        return STARVED
    except Exception as error:  # noqa: BLE001 - it is the server that says so
        *_, last = traceback.extract_tb(error.__traceback__)
        where = f"{Path(last.filename).name}:{last.lineno} in {last.name}"
        return BROKE + f"{type(error).__name__} at {where}".encode()


def _limit(wall_s: float, memory_bytes: int) -> None:
    cpu_s = math.ceil(wall_s) + 1
    wanted = (
        (resource.RLIMIT_AS, memory_bytes, memory_bytes),
        (resource.RLIMIT_CPU, cpu_s, cpu_s + 1),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_CORE, 0, 0),
    )
    for what, soft, hard in wanted:
        _, most = resource.getrlimit(what)
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)  # noqa: PLW2901 - not above what it has
        resource.setrlimit(what, (soft, hard))
    # Where the system has no memory left, this process is the one to end.
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        return


if __name__ == "__main__":
    main()
