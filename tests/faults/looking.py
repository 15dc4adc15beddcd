"""Looks at a repository as the server's git worker does, with git under strace.

    python looking.py

Each line on standard input is a JSON object of the members of `Case`; each is a fork in a session
of its own. What it answered is a line on standard output, JSON, null if it died.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from mergescale.gitops.git.hardening import child_environment
from mergescale.gitops.git.messages import Request
from mergescale.gitops.git.worker import answer

#: How git makes what it writes durable, and visible under its name.
CALLS = "fsync,fdatasync,rename,link,unlink,mkdir"
_ATTACHED_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Case:
    """One look.

    Attributes:
        known, applied: see `Request`.
        inject: what strace does to which call, in its own words; empty to trace only.
        path: only calls about this path are traced, if it is not empty.
        search: folders in which programs are looked for, before the usual ones.
        log: where strace writes down the calls.
        whole: the first signal that it delivers is the end of the whole session.
    """

    url: str
    store: str
    known: str = ""
    applied: str = ""
    inject: str = ""
    path: str = ""
    search: str = ""
    log: str = ""
    whole: bool = False


def look(case: Case) -> bytes:
    """Do what the worker does with one request."""
    request = Request(
        url=case.url,
        transport="file",
        ref="refs/heads/main",
        folder="",
        store=case.store,
        known=case.known,
        applied=case.applied,
        timeout_s=60,
    )
    home = Path(case.store).with_suffix(".home")
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ.update(child_environment(home, "file", case.url))
    if case.search:
        os.environ["PATH"] = f"{case.search}:{os.environ['PATH']}"
    return msgspec.json.encode(answer(request))


def run(case: Case) -> Any:
    """Fork, trace if there is anything to trace for, let go, and wait for the answer."""
    go_on, let_go = os.pipe()
    hearing, telling = os.pipe()
    child = os.fork()
    if child == 0:
        gc.freeze()
        os.setsid()
        os.close(let_go)
        os.close(hearing)
        os.read(go_on, 1)
        os.write(telling, look(case))
        os._exit(0)
    os.close(go_on)
    os.close(telling)
    tracer = traced(child, case) if case.inject or case.log else None
    os.write(let_go, b"x")
    os.close(let_go)
    if tracer is not None and case.whole:
        assert tracer.stderr is not None
        for line in tracer.stderr:
            if b"--- SIGSTOP" in line:
                os.killpg(child, signal.SIGKILL)
    with os.fdopen(hearing, "rb") as told:
        said = told.read()
    os.waitpid(child, 0)
    if tracer is not None:
        tracer.communicate()
    return json.loads(said) if said else None


def traced(child: int, case: Case) -> subprocess.Popen[bytes]:
    """Attach strace; return once it has got hold of the child."""
    command = ["strace", "-f", "-qq", "-s", "300", "-e", f"trace={CALLS}"]
    command += ["-e", f"inject={case.inject}"] if case.inject else []
    command += ["-P", case.path] if case.path else []
    command += ["-o", case.log] if case.log else []
    tracer = subprocess.Popen([*command, "-p", str(child)], stderr=subprocess.PIPE)
    deadline = time.monotonic() + _ATTACHED_WITHIN_S
    wanted = f"TracerPid:\t{tracer.pid}\n"
    while wanted not in Path(f"/proc/{child}/status").read_text("ascii"):
        assert tracer.poll() is None, "strace ended"
        assert time.monotonic() < deadline, "strace did not get hold of the process"
        time.sleep(0.002)
    return tracer


if __name__ == "__main__":
    for words in sys.stdin:
        sys.stdout.write(json.dumps(run(Case(**json.loads(words)))) + "\n")
        sys.stdout.flush()
