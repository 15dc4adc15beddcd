"""A replica that follows the journal, without a server around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mergescale.state.engine import Engine
from mergescale.state.follower import Follower
from mergescale.state.tailnets import Tailnets
from mergescale.store.database import ANSWER_S
from mergescale.store.wakeups import Wakeups
from support.clock import FakeClock
from support.journal import MemoryFeed
from support.stores import HOME, OpenStore, opened

#: So long that only what is heard can explain what is known.
NEVER_S = 3600.0
SOON_S = 0.02


@dataclass(slots=True)
class Following:
    """A replica that follows."""

    store: OpenStore
    engine: Engine
    feed: MemoryFeed
    follower: Follower

    async def knows(self, login: str) -> None:
        """Wait until it knows a user; the test's deadline is the deadline."""
        while self.engine.snapshot.user_by_login(login) is None:  # noqa: ASYNC110 - see aio.until
            await asyncio.sleep(0.001)


@asynccontextmanager
async def following(
    url: str, *, poll_s: float | None, listens: bool, answer_s: float = ANSWER_S
) -> AsyncIterator[Following]:
    """Run an engine that follows the journal; with `poll_s` None when the test says so only."""
    async with opened(url, answer_s) as store:
        feed = MemoryFeed()
        engine = await Engine.open(HOME, store.journal, feed, FakeClock())
        follower = Follower(Tailnets({HOME: engine}), store.journal, poll_s=poll_s or NEVER_S)
        listening = asyncio.Event()

        def began() -> None:
            listening.set()
            follower.wake()

        tasks = [asyncio.create_task(engine.run())]
        if poll_s is not None:
            tasks.append(asyncio.create_task(follower.run()))
        if listens:
            wakeups = Wakeups(store.database, follower.heard, began)
            tasks.append(asyncio.create_task(wakeups.run()))
            await listening.wait()
        try:
            yield Following(store, engine, feed, follower)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
