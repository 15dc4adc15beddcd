"""When to look: often where it is cheap, with jitter where others are asked, slower in trouble."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mergescale.domain.change import Change
from mergescale.domain.snapshot import Snapshot
from mergescale.gitops.asking import Fetches
from mergescale.gitops.errors import ReconcileError, Transient, Waiting
from mergescale.gitops.gates import Safeguards
from mergescale.gitops.git.messages import Found
from mergescale.gitops.git.probe import Fingerprint, fingerprint
from mergescale.gitops.git.source import Source
from mergescale.gitops.reconcile import Reconciler
from mergescale.gitops.status import Status
from mergescale.gitops.trying.proving import Proving
from mergescale.kernel.clock import Clock

#: A local ref is trusted to be where it was for this long, then git is asked all the same.
TRUST_S: Final = 30.0
_FIRST_RETRY_S: Final = 1.0
_LONGEST_RETRY_S: Final = 300.0
#: Share of a pause that is random, so that many servers do not ask a forge at once.
_JITTER: Final = 0.2


@dataclass(frozen=True, slots=True)
class Pace:
    """Where the loop gets its pauses and their randomness from.

    Attributes:
        sleep: waits that many seconds.
        chance: uniform in [0, 1).
    """

    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = random.random


class Watcher:
    """Follows one repository until it is cancelled.

    Args:
        reconciler: does the work.
        fetcher: kept warm between looks, closed at the end.
        source: what is followed, and how often it is looked at.
        clock: for the age of the last full look.
        pace: pauses.
    """

    def __init__(
        self,
        reconciler: Reconciler,
        fetcher: Fetches,
        source: Source,
        clock: Clock,
        pace: Pace | None = None,
    ) -> None:
        self._reconciler = reconciler
        self._fetcher = fetcher
        self._source = source
        self._clock = clock
        self._pace = pace or Pace()
        self._hinted = asyncio.Event()
        self._seen: Fingerprint | None = None
        self._due_s = clock.monotonic()

    @property
    def status(self) -> Status:
        """Where following the repository stands now."""
        return self._reconciler.status

    @property
    def source(self) -> Source:
        """What is followed."""
        return self._source

    @property
    def listeners(self) -> list[Callable[[Status, Status], None]]:
        """Who is told of each look; see `Reconciler.listeners`."""
        return self._reconciler.listeners

    @property
    def proving(self) -> Proving:
        """What tries commits."""
        return self._reconciler.proving

    @proving.setter
    def proving(self, proving: Proving) -> None:
        self._reconciler.proving = proving

    @property
    def shown(self) -> Mapping[str, Any]:
        """The same at any replica: what whoever follows the repository says, ready for JSON."""
        return self._reconciler.sharing.shown(self.status, here=not self._reconciler.elsewhere)

    async def sync(self, *, retry: bool = False) -> None:
        """Look now, or have whichever replica follows the repository look; see `Reconciler.sync`.

        Raises:
            StoreUnavailable: another replica was asked, and did not look in time.
            EngineStopped: too late.
        """
        if self._reconciler.elsewhere:
            await self._reconciler.sharing.ask(retry=retry)
        else:
            await self._reconciler.sync(retry=retry)

    @property
    def safeguards(self) -> Safeguards:
        """What commits have to pass."""
        return self._reconciler.safeguards

    async def earlier(self, commit: str) -> Found:
        """Return a commit of the branch's history; see `Reconciler.earlier`."""
        return await self._reconciler.earlier(commit)

    async def newest(self) -> str:
        """Return the id of the branch's newest commit; see `Reconciler.newest`."""
        return await self._reconciler.newest()

    async def proposed(self) -> Found | None:
        """Return what would come into force next; see `Reconciler.proposed`."""
        return await self._reconciler.proposed()

    def publish(self, before: Snapshot, after: Snapshot, change: Change) -> None:
        """Take note of what replicas tell each other; a `state.ports.Feed`."""
        if change.following:
            self._reconciler.sharing.heard()
            moved = before.following.wishes != after.following.wishes
            if self._reconciler.sharing.waited_for or moved:
                self.hint()

    def stand_by(self) -> None:
        """Say that another replica follows the repository; `run` is not running then."""
        self._reconciler.stand_by()

    def hint(self) -> None:
        """Say that something may have moved; the loop looks soon. Cheap, and never blocks."""
        self._hinted.set()

    async def hinted(self) -> None:
        """Have the repository looked at soon, by whoever follows it.

        Returns at once if that is this replica, else when the look is done: who calls it again only
        then has at most one look asked for.

        Raises:
            StoreUnavailable: another replica was asked, and did not look in time.
            EngineStopped: too late.
        """
        if self._reconciler.elsewhere:
            await self._reconciler.sharing.ask()
        else:
            self.hint()

    async def run(self) -> None:
        """Look, pause, look again, for ever. Cancel it to stop; no child process stays behind."""
        try:
            while True:
                if self._worth_it():
                    await self._reconciler.sync(retry=self._reconciler.sharing.doubted)
                    self._due_s = self._clock.monotonic() + self._wait_s()
                    with contextlib.suppress(ReconcileError):
                        await self._fetcher.warm()
                await self._rest(self._pause_s())
        finally:
            await self._fetcher.close()

    def _worth_it(self) -> bool:
        """Say whether git is to be asked: it is time, somebody said so, or a local ref moved."""
        hinted = self._hinted.is_set()
        self._hinted.clear()
        return self._moved() or hinted or self._clock.monotonic() >= self._due_s

    def _moved(self) -> bool:
        """Look at the files of a local repository.

        Taken before git reads: a commit that comes in between is seen the next time.
        """
        local = self._source.local
        if local is None:
            return False
        before, self._seen = self._seen, fingerprint(local, self._source.followed.watched)
        return self._seen != before

    def _wait_s(self) -> float:
        """Return how long nothing is asked of git: as configured, longer with every failure."""
        poll_s = self._source.poll_s if self._source.local is None else TRUST_S
        match self._reconciler.trouble:
            case Waiting(retry_after_s=retry_after_s):
                wait_s = retry_after_s
            case Transient():
                doublings = min(self._reconciler.status.attempts - 1, 16)
                wait_s = min(_FIRST_RETRY_S * 2**doublings, max(_LONGEST_RETRY_S, poll_s))
            case _:
                wait_s = poll_s
        if (thaws_s := self._reconciler.thaws_s) is not None:
            return min(wait_s, thaws_s)
        spread = self._pace.chance() - 0.5
        if isinstance(self._reconciler.trouble, Waiting):
            # Never earlier than somebody asked for.
            spread = abs(spread)
        return wait_s * (1 + _JITTER * spread)

    def _pause_s(self) -> float:
        """Return how long the loop sleeps: a local repository's files are looked at meanwhile."""
        left_s = max(0.0, self._due_s - self._clock.monotonic())
        return left_s if self._source.local is None else min(left_s, self._source.poll_s)

    async def _rest(self, pause_s: float) -> None:
        """Pause, or until a hint."""
        hinted = asyncio.ensure_future(self._hinted.wait())
        slept = asyncio.ensure_future(self._pace.sleep(pause_s))
        try:
            await asyncio.wait({hinted, slept}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hinted.cancel()
            slept.cancel()
