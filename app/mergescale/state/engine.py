"""The single writer of a tailnet.

Order is the whole point: decide on a snapshot that nobody else is changing, make it durable, let
readers see it, and only then tell anyone.

Group commit: whatever arrives while a transaction is under way is decided and committed together
in the next one, so a thousand registrations are a few dozen transactions.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from mergescale.domain.change import NOTHING, Change
from mergescale.domain.record import Drop, Write, key_of
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.clock import Clock
from mergescale.kernel.errors import MergescaleError
from mergescale.kernel.ids import Revision, TailnetName
from mergescale.state.derive import derive, elections
from mergescale.state.outcome import Decision, Outcome, outcome
from mergescale.state.ports import (
    Batch,
    Feed,
    Fence,
    Journal,
    JournalTrimmed,
    LeaseLost,
    RevisionMoved,
    StoreConflict,
    StoreUnavailable,
)

T = TypeVar("T")

#: LIMIT: decisions per transaction; bounds the time one turn keeps the event loop.
BATCH_LIMIT = 64
#: LIMIT: how often one batch is decided again because another replica was first.
_ATTEMPTS = 20


class EngineStopped(MergescaleError):
    """Raised when a decision arrives after the engine was stopped."""

    code = "engine.stopped"


@dataclass(slots=True)
class _Request:
    decide: Decision[Any]
    done: asyncio.Future[Any]
    fence: Fence | None


@dataclass(slots=True)
class _Turn:
    """A batch as far as it was decided.

    Refusals wait for the commit as answers do: they may rest on what the batch did before them,
    and that did not happen if it fails.
    """

    snapshot: Snapshot
    change: Change
    writes: list[Write]
    fences: set[Fence]
    answers: list[tuple[_Request, Any]]
    refusals: list[tuple[_Request, Exception]]


class Engine:
    """Owns the snapshot of one tailnet.

    Use `open` to make one, `run` in a task group, `apply` from anywhere on the loop.
    """

    def __init__(self, snapshot: Snapshot, journal: Journal, feed: Feed, clock: Clock) -> None:
        self.snapshot = snapshot
        self._journal = journal
        self._feed = feed
        self._clock = clock
        self._pending: list[_Request] = []
        self._seen: Revision | None = None
        self._wake = asyncio.Event()
        self._stopped = False

    @classmethod
    async def open(cls, tailnet: TailnetName, journal: Journal, feed: Feed, clock: Clock) -> Engine:
        """Load the tailnet from the journal.

        Raises:
            StoreUnavailable: the database could not be read.
        """
        empty = Snapshot(tailnet)
        snapshot, _ = advance(empty, await journal.load(tailnet))
        return cls(snapshot, journal, feed, clock)

    async def apply(self, decide: Decision[T], fence: Fence | None = None) -> T:
        """Carry a decision out; return its answer once it is durable and visible.

        Args:
            decide: what is decided.
            fence: the lease that it rests on; what it writes is refused once that is lost.

        Raises:
            Refusal: the decision said no; nothing changed.
            LeaseLost: the lease is somebody else's; nothing changed.
            StoreUnavailable: the database did not take it; nothing changed.
            EngineStopped: too late.
        """
        if self._stopped:
            raise EngineStopped("the server is stopping")
        request = _Request(decide, asyncio.get_running_loop().create_future(), fence)
        self._pending.append(request)
        self._wake.set()
        answer: T = await request.done
        return answer

    def preview(self, decide: Decision[T]) -> T:
        """Return what a decision would answer by what is known now; nothing is carried out.

        Raises:
            Refusal: the decision would say no.
        """
        return decide(self.snapshot, self._clock.now()).answer

    def saw(self, head: Revision) -> None:
        """Say that the journal was seen at this revision: take in soon what others wrote."""
        self._seen = head
        self._wake.set()

    async def reach(self, head: Revision) -> None:
        """Take in what others wrote, as `saw`, and wait until that was tried.

        Raises:
            EngineStopped: too late.
        """
        self.saw(head)
        # Whatever is decided comes after what was seen.
        await self.apply(_nothing)

    async def run(self) -> None:
        """Carry out what is pending, for ever; returns after `stop` once nothing is left."""
        batch: list[_Request] = []
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._pending or self._seen is not None:
                    while self._seen is not None:
                        await self._follow()
                    batch, self._pending = self._pending[:BATCH_LIMIT], self._pending[BATCH_LIMIT:]
                    if batch:
                        await self._carry_out(batch)
                if self._stopped:
                    return
        finally:
            # Nobody waits for a turn that will not come, however this ended.
            self._stopped = True
            for request in [*batch, *self._pending]:
                _settle(request, error=EngineStopped("the server is stopping"))

    def stop(self) -> None:
        """Refuse what comes from now on; `run` finishes what is pending."""
        self._stopped = True
        self._wake.set()

    async def _carry_out(self, batch: list[_Request]) -> None:
        try:
            turn = await self._commit(batch)
        except Exception as error:  # noqa: BLE001 - every caller of the batch is told
            await self._not_carried_out(batch, error)
            return
        for request, answer in turn.answers:
            _settle(request, answer=answer)
        for request, refusal in turn.refusals:
            _settle(request, error=refusal)

    async def _not_carried_out(self, batch: list[_Request], error: Exception) -> None:
        """Tell the callers of a batch that was not committed; nothing of it happened."""
        if isinstance(error, StoreConflict | LeaseLost) and len(batch) > 1:
            # One of them asks for what cannot be or may not; the others did nothing wrong.
            for request in batch:
                await self._carry_out([request])
            return
        for request in batch:
            _settle(request, error=error)

    async def _commit(self, batch: list[_Request]) -> _Turn:
        """Decide, make durable, swap, publish. Nothing is swapped when this raises."""
        for _ in range(_ATTEMPTS):
            before = self.snapshot
            turn = self._decide(batch)
            if not turn.writes:
                return turn
            try:
                revision = await self._journal.commit(
                    before.tailnet, before.revision, turn.writes, self._clock.now(), turn.fences
                )
            except RevisionMoved:
                await self._catch_up()
                continue
            self.snapshot = replace(turn.snapshot, revision=revision)
            if turn.change:
                self._feed.publish(before, self.snapshot, turn.change)
            return turn
        raise StoreUnavailable("other replicas were first too many times in a row")

    async def _follow(self) -> None:
        """Catch up if the journal was seen elsewhere than the snapshot is."""
        seen, self._seen = self._seen, None
        if seen is None or seen == self.snapshot.revision:
            return
        # Whoever looks at the journal looks again.
        with contextlib.suppress(StoreUnavailable):
            await self._catch_up()

    async def _catch_up(self) -> None:
        """Take in what other replicas committed, and tell: it stands whatever comes of our own."""
        before = self.snapshot
        try:
            batch = await self._journal.since(before.tailnet, before.revision)
        except JournalTrimmed:
            batch = anew(before, await self._journal.load(before.tailnet))
        self.snapshot, change = advance(before, batch)
        if change:
            self._feed.publish(before, self.snapshot, change)

    def _decide(self, batch: list[_Request]) -> _Turn:
        """Run the decisions one after another; a refused one fails alone."""
        turn = _Turn(self.snapshot, NOTHING, [], set(), [], [])
        now = self._clock.now()
        for request in batch:
            if request.done.done():
                continue
            try:
                outcome = request.decide(turn.snapshot, now)
            except Exception as error:  # noqa: BLE001 - the caller decides what it means
                turn.refusals.append((request, error))
                continue
            turn.snapshot = outcome.snapshot
            turn.change |= outcome.change
            turn.writes.extend(outcome.writes)
            if outcome.writes and request.fence is not None:
                turn.fences.add(request.fence)
            turn.answers.append((request, outcome.answer))
        turn.snapshot, turn.change = derive(self.snapshot, turn.snapshot, turn.change)
        turn.writes.extend(elections(self.snapshot, turn.snapshot))
        return turn


def advance(snapshot: Snapshot, batch: Batch) -> tuple[Snapshot, Change]:
    """Apply what the journal says: the same writes that the deciding replica applied."""
    after, change = snapshot.apply(batch.writes)
    after, change = derive(snapshot, after, change)
    return replace(after, revision=batch.revision), change


def anew(snapshot: Snapshot, everything: Batch) -> Batch:
    """Return what takes any snapshot of a tailnet to what is stored: all of it, and what is gone.

    The snapshot is not begun afresh: nodes keep their slots, and every record is named in the
    change, so that the difference reaches whoever holds the old one.
    """
    stored = {(type(w.record), key_of(w.record)) for w in everything.writes}
    gone = [Drop(one) for one in snapshot.records() if (type(one), key_of(one)) not in stored]
    return Batch(everything.revision, [*gone, *everything.writes])


def _nothing(snapshot: Snapshot, _: datetime) -> Outcome[None]:
    return outcome(snapshot, (), None)


def _settle(request: _Request, *, answer: object = None, error: Exception | None = None) -> None:
    """Answer a caller, unless it went away."""
    if request.done.done():
        return
    if error is not None:
        request.done.set_exception(error)
    else:
        request.done.set_result(answer)
