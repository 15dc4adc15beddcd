"""Work that a cancellation may delay but not cut short."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end whatever happens to the caller; cancel the caller afterwards.

    Cancelled half way, a COMMIT on its way to the database may or may not arrive, and the caller
    could not know what is durable.
    """
    caller = asyncio.current_task()
    task = asyncio.ensure_future(work)
    cancellations = 0
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancellations += 1
    if caller is not None:
        for _ in range(cancellations):
            # Taken back and made again: it was delivered once, here, and is still due.
            caller.uncancel()
            caller.cancel()
    return task.result()
