"""Keeps the engines of a process abreast of what other replicas commit.

The journal's numbers are the truth. They are looked at every second; hearing of a commit only
makes it sooner, and missing that costs nothing but the second.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from math import inf
from typing import Final

from mergescale.kernel.ids import Revision, TailnetName
from mergescale.state.ports import Journal, StoreUnavailable
from mergescale.state.tailnets import Tailnets

#: How often the journal is looked at, if nothing is heard.
POLL_S: Final = 1.0
#: Share of it that is random, so that replicas do not ask together.
_JITTER: Final = 0.3


class Follower:
    """Looks at the journal and tells engines where it is; they take in what they lack.

    Attributes:
        looked_s: when the newest look began that came to its end, by the loop's clock.
    """

    def __init__(
        self,
        tailnets: Tailnets,
        journal: Journal,
        *,
        poll_s: float = POLL_S,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.looked_s = -inf
        self._tailnets = tailnets
        self._journal = journal
        self._poll_s = poll_s
        self._chance = chance
        self._woken = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._begun = 0

    def heard(self, tailnet: TailnetName, revision: Revision) -> None:
        """Pass on that a tailnet has this revision; a number that is not newer says nothing."""
        engine = self._tailnets.engines.get(tailnet)
        if engine is not None and revision > engine.snapshot.revision:
            engine.saw(revision)

    def wake(self) -> None:
        """Look soon: something may have been missed."""
        self._woken.set()

    async def run(self) -> None:
        """Look for ever; cancel it to stop."""
        while True:
            # A database that is away is waited for; whoever needs it says that it is.
            with contextlib.suppress(StoreUnavailable):
                await self.look()
            pause_s = self._poll_s * (1 + _JITTER * (self._chance() - 0.5))
            try:
                async with asyncio.timeout(pause_s):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()

    async def look(self) -> None:
        """Compare every engine with the journal, and wait until they took in what they lacked.

        However many ask, one look is under way and one more follows for all who came meanwhile.

        Raises:
            StoreUnavailable: the database could not be read.
            EngineStopped: too late.
        """
        begun_before = self._begun
        async with self._one_at_a_time:
            if self._begun == begun_before:
                self._begun += 1
                await self._compare()

    async def _compare(self) -> None:
        began_s = asyncio.get_running_loop().time()
        before = {name: e.snapshot.revision for name, e in self._tailnets.engines.items()}
        heads = await self._journal.heads()
        for name, engine in self._tailnets.engines.items():
            head = heads.get(name, Revision(0))
            # Behind what this process knew was durable: an older database was put in its place.
            if head > engine.snapshot.revision or head < before[name]:
                await engine.reach(head)
        self.looked_s = began_s
