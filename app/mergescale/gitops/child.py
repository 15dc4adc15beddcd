"""The server's side of the worker: start it, ask it once, make sure that it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Final

import msgspec

import mergescale
from mergescale.gitops.errors import Stalled, Transient
from mergescale.gitops.messages import Failed, Found, Reply, Request, Unchanged
from mergescale.gitops.source import Source

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
    """

    def __init__(self, source: Source, store: Path) -> None:
        store.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._source = source
        self._store = store
        self._waiting: Process | None = None

    async def look(self, *, known: str, applied: str) -> Unchanged | Found:
        """Fetch, and read the files if the ref is at another commit than `known`.

        Args:
            known: full object id looked at last, or empty.
            applied: full object id in force, or empty.

        Raises:
            Stalled: only a new commit or another configuration helps.
            Transient: it may work later; also when the worker died or ran out of time.
        """
        request = Request(
            url=self._source.url,
            transport=self._source.transport,
            ref=self._source.ref,
            folder=self._source.folder,
            store=str(self._store),
            known=known,
            applied=applied,
            timeout_s=self._source.timeout_s + _GRACE_S,
        )
        match await self._ask(request):
            case Failed(retry=True) as failed:
                raise Transient(failed.reason, failed.message, help=failed.help)
            case Failed() as failed:
                raise Stalled(failed.reason, failed.message, help=failed.help)
            case reply:
                return reply

    async def warm(self) -> None:
        """Start the next child ahead, unless one is waiting already."""
        if self._waiting is None or self._waiting.returncode is not None:
            try:
                self._waiting = await _start(self._store.parent)
            except OSError as error:
                message = "the process that runs git could not be started"
                raise Transient("WorkerFailed", message) from error

    async def close(self) -> None:
        """End the waiting child."""
        process, self._waiting = self._waiting, None
        if process is not None:
            await _end(process)

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
            await _end(process)
        try:
            reply: Reply = msgspec.json.decode(raw, type=Reply)
        except msgspec.DecodeError:
            raise Transient("WorkerFailed", "the process that runs git ended early") from None
        return reply


async def _start(folder: Path) -> Process:
    """Start a worker in its own session; it sees nothing of this process's environment."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-s", "-m", "mergescale.gitops.worker",
        stdin=PIPE,
        stdout=PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=folder,
        env={
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": _APP,
            "LC_ALL": "C.UTF-8",
            # GitPython looks for git at its first call instead of running it at import.
            "GIT_PYTHON_REFRESH": "quiet",
        },
        start_new_session=True,
    )  # fmt: skip


async def _exchange(process: Process, request: bytes) -> bytes:
    """Send one line and read until the child closes its end."""
    assert process.stdin is not None  # noqa: S101 - piped
    assert process.stdout is not None  # noqa: S101 - piped
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(request + b"\n")
        await process.stdin.drain()
    parts: list[bytes] = []
    size = 0
    while part := await process.stdout.read(1 << 18):
        size += len(part)
        if size > _LONGEST_REPLY:
            return b""
        parts.append(part)
    return b"".join(parts)


async def _end(process: Process) -> None:
    """Kill whatever is left of the session and reap the child."""
    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    # Cancellation must not leave a zombie: the wait is short, the child was killed.
    await asyncio.shield(process.wait())
