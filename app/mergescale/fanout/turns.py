"""Costly things a few at a time, so that the loop serves everybody else between them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

#: LIMIT: a handshake with the start of HTTP/2 takes half a millisecond, and so does a full map: with
#: this many in one turn of the loop others wait some 20 ms, not a second.
AT_ONCE: Final = 16


class Turns:
    """Does what it is given: at once, as long as few come; in order, `at_once` each turn of the loop."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._left = at_once
        self._waiting: deque[Callable[[], object]] = deque()
        self._due = False

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def take(self, do: Callable[[], object]) -> bool:
        """Do it now or in a later turn of the loop; return whether it is done."""
        self._next_turn()
        if not self._left:
            self._waiting.append(do)
            return False
        self._left -= 1
        do()
        return True

    async def mine(self) -> None:
        """Wait for a turn; returns in that turn."""
        come: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.take(partial(_settle, come))
        await come

    def _next_turn(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._due = False
        self._left = max(0, self._at_once - len(self._waiting))
        if self._waiting:
            self._next_turn()
        for _ in range(min(self._at_once, len(self._waiting))):
            self._waiting.popleft()()


def _settle(come: asyncio.Future[None]) -> None:
    if not come.done():  # whoever waited may have been cancelled
        come.set_result(None)
