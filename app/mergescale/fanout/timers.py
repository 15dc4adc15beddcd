"""What fan-out needs of an event loop; `asyncio.AbstractEventLoop` has it, tests have a twin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Handle(Protocol):
    """A call that has not been made yet."""

    def cancel(self) -> None:
        """Do not make it."""
        ...


class Timers(Protocol):
    """Calls made later, on the loop's own thread."""

    def call_soon(self, callback: Callable[[], object], /) -> Handle:
        """Make the call after what is ready now, and after the loop looked for I/O."""
        ...

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Handle:
        """Make the call after `delay` seconds."""
        ...
