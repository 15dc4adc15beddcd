"""The child process in which a commit is tried; started by ``containment.py``, gone after one.

    python -m mergescale.gitops.trying.tried SECONDS BYTES

It limits itself before it reads what it is to try. What it finds out of the commit is not said:
only that it has its input (`LOADED`), and that it is through or ran out of memory.
"""

from __future__ import annotations

import gc
import math
import os
import pickle
import resource
import signal
import sys
from pathlib import Path
from typing import Final

import structlog

from mergescale.domain.snapshot import Snapshot
from mergescale.gitops.git.messages import Found
from mergescale.gitops.stages import BadCommit, prepare
from mergescale.gitops.trying.containment import LOADED, STARVED, THROUGH
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
        found, news = pickle.load(questions)  # noqa: S301 - the same
    against, _ = base.apply(news)
    # Ends us when time is up, whatever we are at: the server may be gone by then.
    signal.setitimer(signal.ITIMER_REAL, wall_s + 1)
    os.write(answers, LOADED)
    os.write(answers, STARVED if _starved(found, against) else THROUGH)


def _starved(found: Found, against: Snapshot) -> bool:
    """Run the stages; say whether memory ran out."""
    try:
        prepare(found, against)
    except MemoryError:
        return True
    except BadCommit as error:
        return isinstance(error.__cause__, MemoryError)
    return False


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
