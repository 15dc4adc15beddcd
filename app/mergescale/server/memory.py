"""Keeping the process's memory from stopping its loop, and from staying larger than it has to be."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import time
from typing import Final

#: LIMIT: 5,000 new objects are looked at in some 3 ms, eight times as many in 30; a look at all of
#: them comes after hundreds of millions.
COLLECT_AFTER: Final = (5_000, 8, 10_000)
#: How often memory that is free goes back to the system. With nothing to give it costs microseconds.
GIVE_BACK_S: Final = 10.0
#: Share of a core below which the process is quiet.
QUIET: Final = 0.1


def calm_collector() -> None:
    """Let the cyclic garbage collector look at young objects only; until here it may be off.

    Python would look at everything again each time there is a quarter more of it: 0.3 s with a
    thousand clients, in which nobody is served. What a client leaves behind is in no cycle
    (``control`` sees to it), so nearly all there is to find is young.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    gc.enable()


async def give_back() -> None:
    """Return free memory to the system now and then, for ever.

    When everybody connects at once, hundreds of megabytes of maps wait in buffers; between them
    small things are allocated that stay, and for their sake the C library keeps all of it.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is None:
        return
    while True:
        before_s = time.process_time()
        await asyncio.sleep(GIVE_BACK_S)
        # Whoever allocates meanwhile waits for it, so it comes after the storm and not in it.
        if time.process_time() - before_s < QUIET * GIVE_BACK_S:
            await asyncio.to_thread(trim, 0)
