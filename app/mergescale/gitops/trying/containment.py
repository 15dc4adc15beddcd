"""Working on texts of others where it can do no harm: in a child process with limits.

A policy may be made to hang, crash or starve the compiler, or whoever plans what it would do. So
before the server takes a commit through the stages itself, a child with limits of processor time,
memory and wall clock does, on the same texts and the same devices. The server believes nothing of
what the child computed, only that it came to an end; then it repeats the work. What the child would
have to send back shares objects with the policy in force (so that unchanged filters stay the same
objects), which no copy does, and to repeat takes less than to take over a copy of a large tailnet.

A plan is only told, so it is made in the child alone, which sends it as JSON.

LIMIT(length): the child, its clock and what it is told belong together.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import pickle
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from threading import Timer
from typing import Final, Protocol, TypeVar

import structlog

import mergescale
from mergescale.domain.access import DENY_ALL
from mergescale.domain.node import Node
from mergescale.domain.record import Drop, Following, Put, Write
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import User
from mergescale.gitops.errors import Transient
from mergescale.gitops.git.messages import Found
from mergescale.gitops.stages import BadCommit, prepare
from mergescale.gitops.trying.inforce import InForce

log = structlog.get_logger()

#: What the child says: it has its input; it is through, and what came of it; it ran out of memory; or
#: it broke, and where.
LOADED: Final = b"L"
THROUGH: Final = b"T"
STARVED: Final = b"S"
BROKE: Final = b"B"
#: LIMIT: of what may come of it; the plan of a large tailnet takes some megabytes.
_ANSWER_BYTES: Final = 64 << 20
#: LIMIT: until a child has its input; a busy machine starts processes slowly.
_START_S: Final = 30.0
#: LIMIT: of what is logged of a child that broke.
_WORDS_BYTES: Final = 300
_Key = TypeVar("_Key")
_APP = str(Path(mergescale.__file__).parent.parent)


class Task(Protocol):
    """What a child does; it goes there pickled."""

    def carry_out(self, snapshot: Snapshot) -> bytes:
        """Do it, over these people and devices, and what is in force if it was asked for."""
        ...


@dataclass(frozen=True, slots=True)
class Stages:
    """Takes a commit through the stages; nothing comes of it."""

    found: Found

    def carry_out(self, snapshot: Snapshot) -> bytes:
        """Do it; whatever the verdict is, the server comes to it itself."""
        try:
            prepare(self.found, snapshot)
        except BadCommit as error:
            if isinstance(error.__cause__, MemoryError):
                raise error.__cause__ from None
        return b""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one trial may take.

    Attributes:
        wall_s: seconds from when it has its input to its end, and of processor time.
        memory_bytes: address space of the child.
    """

    wall_s: float = 60.0
    memory_bytes: int = 2 << 30


class Contained(BadCommit):
    """Raised for a commit that the compiler did not survive.

    Its reason is ``CompilerCrashed``, ``CompilerTimeout`` or ``CompilerOutOfMemory``.
    """

    code = "gitops.contained"

    def __init__(self, reason: str) -> None:
        super().__init__("valid", reason, _MESSAGES[reason])
        self.help = "it is not tried again; push another commit, or mergescale gitops sync --retry"


CRASHED: Final = "CompilerCrashed"
TIMEOUT: Final = "CompilerTimeout"
STARVING: Final = "CompilerOutOfMemory"
_MESSAGES: Final = {
    CRASHED: "the compiler did not survive this commit",
    TIMEOUT: "the compiler did not come to an end with this commit in time",
    STARVING: "the compiler needed more memory for this commit than it may have",
}


class Trials:
    """Tries commits of one tailnet, each in a child process of its own.

    The next child waits with its imports done and with people and devices as they were when it was
    started, so that only what has changed since is sent with a commit.

    Args:
        folder: where the children run; made if it is not there.
        bounds: of each trial.
    """

    def __init__(self, folder: Path, bounds: Bounds | None = None) -> None:
        self._folder = folder
        self._bounds = bounds or Bounds()
        self._waiting: _Child | None = None

    @property
    def waiting(self) -> int | None:
        """Process id of the child that waits, None for none."""
        return None if self._waiting is None else self._waiting.process.pid

    def warm(self, snapshot: Snapshot) -> None:
        """Start the next child ahead, unless one is waiting already. Returns at once.

        Raises:
            Transient: the machine has no room for another process.
        """
        if self._waiting is not None and self._waiting.process.poll() is None:
            return
        self.close()
        process, base = self._start(), _lean(snapshot)
        primed = asyncio.create_task(asyncio.to_thread(_prime, process, base))
        self._waiting = _Child(process, base, primed)

    async def run(self, found: Found, against: Snapshot) -> None:
        """Take a commit through the stages in a child; return when it came to an end, however.

        Raises:
            Contained: it did not.
            Transient: there was no trial, which says nothing of the commit.
        """
        await self._done(Stages(found), against, None)

    async def work(self, task: Task, against: Snapshot) -> bytes:
        """Have a child do something over a tailnet, and what is in force there; return its answer.

        Raises:
            Contained: it did not come to an end.
            Transient: it did not begin.
        """
        return await self._done(task, against, InForce.of(against))

    async def _done(self, task: Task, against: Snapshot, held: InForce | None) -> bytes:
        self.warm(against)
        child, self._waiting = self._waiting, None
        assert child is not None  # noqa: S101 - `warm` made one
        try:
            said, late = await self._tried(child, task, against, held)
        except asyncio.CancelledError:
            # Threads end with the child, and give back what they share.
            _kill(child.process)
            raise
        with contextlib.suppress(Transient):
            self.warm(against)
        if said.startswith(LOADED + THROUGH) and len(said) <= _ANSWER_BYTES:
            return said[2:]
        if not said.startswith(LOADED):
            raise Transient("CompilerUnavailable", "the compiler's process could not begin")
        if said.startswith(LOADED + BROKE):
            log.error("gitops.child-broke", where=said[2:_WORDS_BYTES].decode(errors="replace"))
        raise Contained(_reason(said, child.process.returncode, late=late))

    def close(self) -> None:
        """End the waiting child."""
        child, self._waiting = self._waiting, None
        if child is not None:
            child.end()

    async def _tried(
        self, child: _Child, task: Task, against: Snapshot, held: InForce | None
    ) -> tuple[bytes, bool]:
        """Return what the child said, and whether its time ran out."""
        try:
            async with asyncio.timeout(_START_S):
                await asyncio.shield(child.primed)
        except TimeoutError:
            child.end()
            return b"", True
        return await asyncio.to_thread(self._exchange, child, task, against, held)

    def _exchange(
        self, child: _Child, task: Task, against: Snapshot, held: InForce | None
    ) -> tuple[bytes, bool]:
        news = pickle.dumps((task, child.news(against), held), pickle.HIGHEST_PROTOCOL)
        process, bounds = child.process, self._bounds
        watchdog = _Watchdog(process, max(_START_S, bounds.wall_s))
        assert process.stdin is not None  # noqa: S101 - piped
        assert process.stdout is not None  # noqa: S101 - the same
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(news)
                process.stdin.flush()
            said = process.stdout.read(1)
            if said == LOADED:
                # A machine that starts processes slowly is not the commit's doing.
                watchdog.again(bounds.wall_s)
                said += process.stdout.read(_ANSWER_BYTES)
        finally:
            watchdog.stop()
            _end(process)
        return said, watchdog.bit

    def _start(self) -> Popen[bytes]:
        """Start a child in its own session; it sees nothing of this process's environment."""
        bounds = (str(self._bounds.wall_s), str(self._bounds.memory_bytes))
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return Popen(
                [sys.executable, "-P", "-s", "-m", "mergescale.gitops.trying.tried", *bounds],
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                cwd=self._folder,
                env={"PATH": os.defpath, "PYTHONPATH": _APP, "LC_ALL": "C.UTF-8"},
                start_new_session=True,
            )
        except OSError as error:
            message = "the compiler's process could not be started"
            raise Transient("CompilerUnavailable", message) from error


@dataclass(frozen=True, slots=True)
class _Child:
    """A process that waits for a commit.

    Attributes:
        base: people and devices that it was given.
        primed: ends when it was.
    """

    process: Popen[bytes]
    base: Snapshot
    primed: asyncio.Task[None]

    def news(self, snapshot: Snapshot) -> list[Write]:
        """Return what makes the base the snapshot. Snapshots share what did not change."""
        users = _news(self.base.users, snapshot.users)
        return [*users, *_news(self.base.nodes, snapshot.nodes)]

    def end(self) -> None:
        """End it; whoever still writes to it finds it gone, and reaps it then."""
        _kill(self.process)
        if self.primed.done():
            _end(self.process)
        else:
            self.primed.add_done_callback(lambda _: _end(self.process))


def _news(before: Mapping[_Key, User | Node], after: Mapping[_Key, User | Node]) -> list[Write]:
    gone: list[Write] = [Drop(one) for key, one in before.items() if key not in after]
    return gone + [Put(one) for key, one in after.items() if before.get(key) is not one]


def _prime(process: Popen[bytes], base: Snapshot) -> None:
    """Give a child the people and devices; one that is gone is found out later."""
    assert process.stdin is not None  # noqa: S101 - piped
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(pickle.dumps(base, pickle.HIGHEST_PROTOCOL))
        process.stdin.flush()


class _Watchdog:
    """Kills a process when its time is up; nothing that it holds up then waits on.

    Attributes:
        bit: whether it did.
    """

    def __init__(self, process: Popen[bytes], wall_s: float) -> None:
        self._process = process
        self.bit = False
        self._timer = self._started(wall_s)

    def again(self, wall_s: float) -> None:
        """Let another time begin."""
        self._timer.cancel()
        self._timer = self._started(wall_s)

    def stop(self) -> None:
        """Kill nothing any more."""
        self._timer.cancel()

    def _started(self, wall_s: float) -> Timer:
        timer = Timer(wall_s, self._bite)
        timer.daemon = True
        timer.start()
        return timer

    def _bite(self) -> None:
        self.bit = True
        _kill(self._process)


def _lean(snapshot: Snapshot) -> Snapshot:
    """Return what the compiler needs of a snapshot: people and devices, no keys and no logins."""
    return dataclasses.replace(
        snapshot,
        deployment=None,
        following=Following(),
        auth_keys={},
        api_keys={},
        logins={},
        ssh_checks={},
        presence={},
        by_node_key={},
        by_machine={},
        asking={},
        access=DENY_ALL,
    )


def _reason(said: bytes, returncode: int, *, late: bool) -> str:
    if said.startswith(LOADED + STARVED) or len(said) > _ANSWER_BYTES:
        return STARVING
    # SPEC(setrlimit): the signal of processor time that is used up.
    return TIMEOUT if late or returncode == -signal.SIGXCPU else CRASHED


def _end(process: Popen[bytes]) -> None:
    """Kill whatever is left of the session and reap the child."""
    _kill(process)
    for pipe in (process.stdin, process.stdout):
        # What was not sent to a child that died stays unsent.
        with contextlib.suppress(BrokenPipeError):
            if pipe is not None:
                pipe.close()
    process.wait()


def _kill(process: Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
