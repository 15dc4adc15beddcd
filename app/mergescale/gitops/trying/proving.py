"""A commit is tried before it is judged, and what is tried is written down before that.

    quarantined? -> begun (in the journal) -> tried in a child -> the stages -> ended (in the journal)

INVARIANT(tried-once): between *begun* and *ended* nothing happens that could end the server without
leaving the record behind; `state.trials` says what follows from it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Final, Protocol

import structlog

from mergescale.domain.snapshot import Snapshot
from mergescale.gitops.errors import Transient
from mergescale.gitops.git.messages import Found
from mergescale.gitops.stages import Attempt, prepare
from mergescale.gitops.trying.containment import Contained, Task
from mergescale.state import trials
from mergescale.state.engine import Engine, EngineStopped
from mergescale.state.outcome import Decision
from mergescale.state.ports import Fence, LeaseLost, StoreUnavailable
from mergescale.state.trials import Quarantined

log = structlog.get_logger()

#: LIMIT: children that only tell, each with as much memory as one may have; commits do not wait for
#: them.
_AT_ONCE: Final = 2


class Tries(Protocol):
    """What tries commits; `containment.Trials` is the real one."""

    def warm(self, snapshot: Snapshot) -> None:
        """Make the next `run` quicker; returns at once.

        Raises:
            Transient: the machine has no room for it.
        """
        ...

    async def run(self, found: Found, against: Snapshot) -> None:
        """Take a commit through the stages; return when that came to an end, however.

        Raises:
            Contained: it did not.
            Transient: there was no trial.
        """
        ...

    async def work(self, task: Task, against: Snapshot) -> bytes:
        """Do something over a tailnet and what is in force there; return what came of it.

        Raises:
            Contained: it did not come to an end.
            Transient: it did not begin.
        """
        ...

    def close(self) -> None:
        """Let go of everything that `warm` holds."""
        ...


class Proving:
    """Of one tailnet.

    Args:
        engine: of the tailnet.

    Attributes:
        tried: tries commits; None where only commits of one's own are seen.
    """

    def __init__(self, engine: Engine, tried: Tries | None = None) -> None:
        self._engine = engine
        self.tried = tried
        #: The commit whose trial ended while that could not be written.
        self._ended = ""
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    def warm(self) -> None:
        """Make the next trial quicker."""
        if self.tried is not None:
            with contextlib.suppress(Transient):
                self.tried.warm(self._engine.snapshot)

    def close(self) -> None:
        """End what waits for the next trial."""
        if self.tried is not None:
            self.tried.close()

    async def prepare(self, found: Found, against: Snapshot) -> Attempt:
        """Take a commit through the stages once a child has survived that.

        For what nobody tries again by himself: nothing is written of it.

        Raises:
            Contained: the commit is in quarantine, or the child did not survive it.
            BadCommit: a stage refused it.
            Transient: there was no trial.
        """
        self.check(found.commit)
        if self.tried is not None:
            await self.tried.run(found, against)
        return await asyncio.to_thread(prepare, found, against)

    def check(self, commit: str) -> None:
        """Refuse what the compiler did not survive; raises Contained."""
        with _told():
            trials.check(self._engine.snapshot, commit)

    async def work(self, task: Task, against: Snapshot) -> bytes:
        """Have something done that only tells, where texts of others can do no harm.

        Raises:
            Contained: the child did not survive it.
            Transient: there was no child.
        """
        async with self._at_once:
            if self.tried is not None:
                return await self.tried.work(task, against)
            return await asyncio.to_thread(task.carry_out, against)

    @contextlib.asynccontextmanager
    async def judging(self, commit: str, fence: Fence | None) -> AsyncIterator[None]:
        """Write down that a commit is about to be tried, and afterwards how that ended.

        Whatever ends the server in between leaves the first without the second.

        Raises:
            Contained: it is in quarantine.
            Transient: that could not be written.
        """
        if self.tried is None:
            yield
            return
        with _told():
            ended = commit == self._ended
            begun = await self._engine.apply(trials.begin(commit, ended=ended), fence)
        if begun.reason:
            raise Contained(begun.reason)
        self._ended = ""
        try:
            yield
        except Contained as contained:
            log.warning("gitops.contained", commit=commit, reason=contained.reason)
            await self._write(trials.condemn(commit, contained.reason), fence)
            raise
        except Exception:
            await self._end(commit, fence)
            raise
        await self._end(commit, fence)

    async def forgive(self) -> None:
        """Let the commit in quarantine be tried again.

        Raises:
            StoreUnavailable: the database did not take it.
            EngineStopped: too late.
        """
        await self._engine.apply(trials.forgive())

    async def _end(self, commit: str, fence: Fence | None) -> None:
        if self._engine.snapshot.following.trial is not None:
            self._ended = commit
            await self._write(trials.end(commit), fence)

    async def _write(self, decision: Decision[None], fence: Fence | None) -> None:
        """Write it, or leave it: it is judged again then, and counted."""
        with contextlib.suppress(StoreUnavailable, LeaseLost, EngineStopped):
            await self._engine.apply(decision, fence)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Say in this family's words what the journal said."""
    try:
        yield
    except Quarantined as error:
        raise Contained(error.reason) from None
    except LeaseLost as error:
        message = "another replica follows the repository by now"
        raise Transient("LeaseLost", message, help=error.help) from error
    except (StoreUnavailable, EngineStopped) as error:
        message = "the database did not take that the commit is tried"
        raise Transient("StoreUnavailable", message, help="it is tried again") from error
