"""Run a coroutine as a test, on a fresh loop, with a deadline and a clean end.

``pytest`` has no asyncio plugin here, on purpose: a test that needs a loop says so::

    @aio
    async def test_something() -> None: ...
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")

#: LIMIT: nothing in a test of this project takes longer unless it hangs.
DEADLINE_S = 20.0


def run(coroutine: Coroutine[Any, Any, None], *, deadline_s: float = DEADLINE_S) -> None:
    """Run `coroutine`; fail on the deadline, and on exceptions nobody looked at."""
    unhandled: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: unhandled.append(told))
        async with asyncio.timeout(deadline_s):
            await coroutine

    asyncio.run(main())
    assert unhandled == [], unhandled


def aio(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make a coroutine function a test function."""

    @functools.wraps(test)
    def runner(*args: P.args, **kwargs: P.kwargs) -> None:
        run(test(*args, **kwargs))

    return runner


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until `condition` holds; the test's deadline is the deadline."""
    while not condition():  # noqa: ASYNC110 - what is waited for belongs to code without events
        await asyncio.sleep(0)


async def turns(count: int = 5) -> None:
    """Let the loop do what is due, without the passing of time."""
    for _ in range(count):
        await asyncio.sleep(0)
