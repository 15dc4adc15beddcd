"""The twin of the event loop's timers: nothing happens until the test moves time."""

from __future__ import annotations

from collections.abc import Callable

from mergescale.fanout.timers import Handle
from support.aio import turns


class FakeCall:
    """A call that is to be made at some time."""

    def __init__(self, at_s: float, callback: Callable[[], object]) -> None:
        self.at_s = at_s
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeTimers:
    """Starts at 0 s; `turn` makes the calls due soon, `advance` those due later."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.soon: list[FakeCall] = []
        self.later: list[FakeCall] = []

    def call_soon(self, callback: Callable[[], object], /) -> Handle:
        self.soon.append(FakeCall(self.now_s, callback))
        return self.soon[-1]

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Handle:
        self.later.append(FakeCall(self.now_s + delay, callback))
        return self.later[-1]

    @property
    def pending(self) -> list[float]:
        """Return when the calls that are still to be made are due."""
        return sorted(call.at_s for call in self.later if not call.cancelled)

    def turn(self) -> None:
        """Make the calls that were due soon, but not those which they ask for."""
        calls, self.soon = self.soon, []
        for call in calls:
            call.callback()

    def advance(self, step_s: float) -> None:
        """Move time; make what became due."""
        self.now_s += step_s
        due = [call for call in self.later if call.at_s <= self.now_s]
        self.later = [call for call in self.later if call.at_s > self.now_s]
        for call in due:
            if not call.cancelled:
                call.callback()

    async def settle(self) -> None:
        """Let everything happen that needs no time."""
        await turns()
        while self.soon:
            self.turn()
            await turns()
