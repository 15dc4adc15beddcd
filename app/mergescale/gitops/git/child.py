"""The server's side of the worker: start it, ask it once, make sure that it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Any, Final

import msgspec

import mergescale
from mergescale.gitops.errors import ReconcileError, Stalled, Transient, Waiting
from mergescale.gitops.git.access import Access, Lender, cleared, folder_of
from mergescale.gitops.git.messages import Failed, Found, Merged, Reply, Request, Unchanged
from mergescale.gitops.git.source import Source
from mergescale.gitops.trust import demands as trust
from mergescale.gitops.trust.demands import Demands

#: LIMIT: 8 MiB of text in the worst JSON spelling (six bytes for a control character).
_LONGEST_REPLY: Final = 64 << 20
_GRACE_S: Final = 5.0
_APP = str(Path(mergescale.__file__).parent.parent)


class Fetcher:
    """Asks one short-lived child process per look at the repository.

    The next child is started ahead and waits with its imports done, because they take longer than
    everything that it does afterwards.

    Args:
        source: what to fetch.
        store: path of the server's own bare repository; its folder belongs to this object.
        demands: whose commits are wanted.
        lender: knows what opens the repository; without one nothing is known to.
    """

    def __init__(
        self,
        source: Source,
        store: Path,
        demands: Demands | None = None,
        lender: Lender | None = None,
    ) -> None:
        self._demands = demands or Demands()
        #: The demands and what the keys' files held at the last look, empty before the first.
        self._trusted = ""
        # The child, and git, work in other folders.
        store = store.absolute()
        store.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        cleared(folder_of(store))
        self._lender = lender
        self._source = source
        self._store = store
        self._waiting: Popen[bytes] | None = None

    async def look(
        self, *, known: str, applied: str, accepted: str = "", past: str = ""
    ) -> Unchanged | Found:
        """Fetch, and read the files if the ref is at another commit than `known`.

        What is known is looked at again once the keys that are trusted have changed.

        Args:
            known: full object id looked at last, or empty.
            applied: full object id in force, or empty.
            accepted: full object id that may come although it does not descend, or empty.
            past: commit of the history that is wanted instead of the newest, or empty.

        Raises:
            Stalled: only a new commit or another configuration helps.
            Waiting: somebody said how long to wait.
            Transient: it may work later; also when the worker died or ran out of time.
        """
        trusted = await asyncio.to_thread(trust.fingerprint, self._demands)
        access = Access() if self._lender is None else await self._lender.access()
        request = self._request(
            known=known if trusted == self._trusted else "",
            applied=applied,
            accepted=accepted,
            past=past,
            demands=self._demands,
            access=access,
        )
        reply = await self._ask(request)
        if isinstance(reply, Failed) and self._lender is not None:
            self._lender.refused()
        match reply:
            case Failed():
                raise failure(reply)
            case Merged():
                raise Transient("WorkerFailed", "the process that runs git said something else")
            case _:
                # Only who knows the commit judges it; others only ask what there is.
                self._trusted = trusted if known else self._trusted
                return reply

    async def warm(self) -> None:
        """Start the next child ahead, unless one is waiting already.

        Raises:
            Transient: the machine has no room for another process.
        """
        if self._waiting is not None and self._waiting.poll() is None:
            return
        await self.close()
        try:
            self._waiting = _start(self._store.parent)
        except OSError as error:
            raise Transient(
                "WorkerFailed", "the process that runs git could not be started"
            ) from error

    async def close(self) -> None:
        """End the waiting child."""
        process, self._waiting = self._waiting, None
        if process is not None:
            await _end(process)

    def _request(self, **wanted: Any) -> Request:
        """Return a request of the source, for what is wanted."""
        return Request(
            url=self._source.url,
            transport=self._source.transport,
            kind=self._source.followed.kind,
            ref=self._source.followed.ref,
            folder=self._source.folder,
            store=str(self._store),
            timeout_s=self._source.timeout_s + _GRACE_S,
            limits=self._source.limits,
            **wanted,
        )

    async def _ask(self, request: Request) -> Reply:
        await self.warm()
        process, self._waiting = self._waiting, None
        assert process is not None  # noqa: S101 - `warm` made one
        try:
            async with asyncio.timeout(self._source.timeout_s):
                raw = await _exchange(process, msgspec.json.encode(request))
        except TimeoutError:
            raise Transient(
                "Timeout",
                f"fetching took longer than {self._source.timeout_s:g} s",
                help="the policy in force stays; raise the time limit if the history is large",
            ) from None
        finally:
            try:
                await _end(process)
            finally:
                if request.access.key:
                    await asyncio.to_thread(cleared, folder_of(self._store))
        try:
            reply: Reply = msgspec.json.decode(raw, type=Reply)
        except msgspec.DecodeError:
            raise Transient("WorkerFailed", "the process that runs git ended early") from None
        return reply


def failure(failed: Failed) -> ReconcileError:
    """Return what is to be raised for what git could not do."""
    if failed.retry_after_s > 0:
        wait_s = failed.retry_after_s
        return Waiting(failed.reason, failed.message, retry_after_s=wait_s, help=failed.help)
    kind = Transient if failed.retry else Stalled
    return kind(failed.reason, failed.message, help=failed.help)


def _start(folder: Path) -> Popen[bytes]:
    """Start a worker in its own session; it sees nothing of this process's environment.

    Not by asyncio: its subprocesses need tasks of their own to start and to be waited for, and hang
    when those are cancelled together with ours, as ``asyncio.run`` does at its end.
    """
    return Popen(
        [sys.executable, "-P", "-s", "-m", "mergescale.gitops.git.worker"],
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        cwd=folder,
        env={
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": _APP,
            "LC_ALL": "C.UTF-8",
            # GitPython looks for git at its first call instead of running it at import.
            "GIT_PYTHON_REFRESH": "quiet",
        },
        start_new_session=True,
    )


async def _exchange(process: Popen[bytes], request: bytes) -> bytes:
    """Send one line and read until the child closes its end; nothing if it says too much."""
    assert process.stdin is not None  # noqa: S101 - piped
    # A request is far smaller than a pipe holds, so this does not block.
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(request + b"\n")
        process.stdin.flush()
    assert process.stdout is not None  # noqa: S101 - piped
    return await _read(process.stdout.fileno())


async def _read(fd: int) -> bytes:
    """Read until the other end is closed; nothing if it says too much.

    Not by the loop's transports of pipes: uvloop closes the number of the file once more after its
    owner did, when it may be a file that another thread has opened by then.
    """
    loop = asyncio.get_running_loop()
    ended, said = loop.create_future(), bytearray()

    def take() -> None:
        part = os.read(fd, 1 << 18)
        said.extend(part)
        if (not part or len(said) > _LONGEST_REPLY) and not ended.done():
            ended.set_result(None)

    loop.add_reader(fd, take)
    try:
        await ended
    finally:
        loop.remove_reader(fd)
    return b"" if len(said) > _LONGEST_REPLY else bytes(said)


async def _end(process: Popen[bytes]) -> None:
    """Kill whatever is left of the session and reap the child."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout):
        # What was not sent to a child that died stays unsent.
        with contextlib.suppress(BrokenPipeError):
            if pipe is not None:
                pipe.close()
    # In a thread, which ends soon and reaps even if we are cancelled while we wait.
    await asyncio.to_thread(_reap, process)


def _reap(process: Popen[bytes]) -> None:
    """Wait for the child, and for what it started: that is ours to bury where we are process 1."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-process.pid, 0)
    process.wait()
