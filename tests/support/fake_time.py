"""An event loop whose time passes at once: whoever waits for a timer gets it without waiting.

For code that only has timers, no sockets::

    @in_fake_time
    async def test_something() -> None:
        await asyncio.sleep(3600)       # an hour of fake time, none of ours
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")


class _Jumping(selectors.DefaultSelector):
    """Moves time on instead of waiting."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits and no timer is set")
        self.now_s += max(0.0, timeout)
        return super().select(0)


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """Starts at 0 s."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


def in_fake_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make a coroutine function a test function; fail on exceptions nobody looked at."""

    @functools.wraps(test)
    def runner(*args: P.args, **kwargs: P.kwargs) -> None:
        unhandled: list[dict[str, Any]] = []

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, told: unhandled.append(told))
            await test(*args, **kwargs)

        with asyncio.Runner(loop_factory=FakeTimeLoop) as loop:
            loop.run(main())
        assert unhandled == [], unhandled

    return runner
