"""Carries operations out under strace, which makes chosen system calls of them fatal or fail.

    python operating.py

Each line on standard input is a case: a JSON object of the members of `Case`. Each is a fork of its
own that opens the database, waits until it is traced and carries the operation out. What came of it
is a line on standard output: a JSON object of the members of `Report`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from mergescale.state.ports import StoreUnavailable
from support.operations import OPERATIONS, NotApplied, at_work
from support.stores import content, loaded

#: How SQLite makes a commit durable, and how it ends its log.
CALLS = ("pwrite64", "fdatasync", "fsync", "ftruncate", "unlink", "rename")
_ATTACHED_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Case:
    """One run of an operation.

    Attributes:
        inject: what strace does to which call, in its own words; empty for a run without harm.
        log: where strace writes down the calls.
    """

    url: str
    operation: str
    inject: str = ""
    log: str = os.devnull


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a case.

    Attributes:
        signal: that the process died of; 0 for none.
        said: what its caller was told, in order: ``done``, or why not. A refused operation is
            asked for once more. ``memory is not the database`` is what must never be there.
    """

    signal: int
    said: list[str]


async def operate(case: Case, traced: int, telling: int) -> None:
    """Carry the operation out; a second time, on the same connections, if it was refused."""
    async with at_work(case.url) as tailnet:
        # Both connections are there before the tracer comes, as in a server.
        await tailnet.journal.heads()
        before = tailnet.engine.snapshot.revision
        os.write(telling, b"ready\n")
        os.read(traced, 1)
        for _ in range(2):
            try:
                await OPERATIONS[case.operation](tailnet)
            except (StoreUnavailable, NotApplied) as error:
                os.write(telling, f"{type(error).__name__}\n".encode())
            else:
                os.write(telling, b"done\n")
            if content(tailnet.engine.snapshot) != content(await loaded(tailnet.journal)):
                os.write(telling, b"memory is not the database\n")
            if tailnet.engine.snapshot.revision != before:
                return


def run(case: Case) -> Report:
    """Fork, trace, let go, and wait for the end."""
    go_on, let_go = os.pipe()
    hearing, telling = os.pipe()
    child = os.fork()
    if child == 0:
        gc.freeze()
        os.close(let_go)
        os.close(hearing)
        asyncio.run(operate(case, go_on, telling))
        os._exit(0)
    os.close(go_on)
    os.close(telling)
    with os.fdopen(hearing, "rb") as told, os.fdopen(let_go, "wb", buffering=0) as gate:
        assert told.readline() == b"ready\n"
        command = ["strace", "-f", "-qq", "-e", "signal=none", "-o", case.log]
        command += ["-e", f"trace={','.join(CALLS)}"]
        command += ["-e", f"inject={case.inject}"] if case.inject else []
        tracer = subprocess.Popen([*command, "-p", str(child)])
        _until_traced(child, tracer)
        gate.write(b"x")
        said = told.read().decode().splitlines()
    _, status = os.waitpid(child, 0)
    tracer.wait()
    return Report(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, said)


def _until_traced(child: int, tracer: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _ATTACHED_WITHIN_S
    wanted = f"TracerPid:\t{tracer.pid}\n"
    while not all(
        wanted in (task / "status").read_text("ascii")
        for task in Path(f"/proc/{child}/task").iterdir()
    ):
        assert tracer.poll() is None, "strace ended"
        assert time.monotonic() < deadline, "strace did not get hold of every thread"
        time.sleep(0.002)


if __name__ == "__main__":
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(asdict(run(Case(**json.loads(line))))) + "\n")
        sys.stdout.flush()
