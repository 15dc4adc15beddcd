"""Takes the duties, stops itself, and writes under them once it is continued.

    python stopping.py <database URL>

Run by ``test_store_leases.py``, which takes the duties over meanwhile. Prints what came of it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from mergescale.kernel.errors import MergescaleError
from mergescale.kernel.ids import ReplicaId
from mergescale.server.system import SystemClock
from mergescale.state import users
from mergescale.state.engine import Engine
from mergescale.state.replica import DUTIES
from mergescale.store.leases import SqlLeases
from support.journal import MemoryFeed
from support.stores import HOME, opened

#: The lease lapses while the process is stopped; nobody waits for it otherwise.
LEASE_S = 0.2


async def main(url: str) -> str:
    """Return the code of the refusal, or ``written``."""
    async with opened(url) as store:
        engine = await Engine.open(HOME, store.journal, MemoryFeed(), SystemClock())
        running = asyncio.create_task(engine.run())
        leases = SqlLeases(store.database, SystemClock())
        fence = await leases.acquire(DUTIES, ReplicaId("stopped"), LEASE_S)
        assert fence is not None
        os.kill(os.getpid(), signal.SIGSTOP)
        try:
            await engine.apply(users.create("late@example.com"), fence)
        except MergescaleError as error:
            return error.code
        finally:
            engine.stop()
            await running
        return "written"


if __name__ == "__main__":
    sys.stdout.write(asyncio.run(main(sys.argv[1])))
