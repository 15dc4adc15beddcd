"""A bound on the log that does not ask who writes it.

Anybody can make the server say something: a garbage request, a record that does not decrypt, a
client that goes silent. Said once it helps, said ten thousand times a minute it fills the disk and
hides the rest. So each event has a number of lines a minute; what is over is counted, and the next
line of that event tells the count.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

#: LIMIT: lines of one event in one minute. A real event that is more frequent is known by then.
LINES: Final = 60
WINDOW_S: Final = 60.0
#: LIMIT: events told apart. The code knows fewer than a hundred; a library may log free text.
EVENTS: Final = 1024


@dataclass(slots=True)
class _Minute:
    began_s: float
    passed: int = 0
    left_out: int = 0


class Pace(logging.Filter):
    """Lets `LINES` lines of each event pass per minute; debugging lines always pass.

    An event is a logger, a level and a message without its arguments, or structlog's event name.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock_s = clock_s
        self._minutes: dict[tuple[str, int, str], _Minute] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether the record is written; the first of a minute tells what was left out."""
        if record.levelno <= logging.DEBUG:
            return True
        now_s = self._clock_s()
        minute = self._minute((record.name, record.levelno, _event(record.msg)), now_s)
        if now_s - minute.began_s >= WINDOW_S:
            _tell(record, minute.left_out)
            minute.began_s, minute.passed, minute.left_out = now_s, 0, 0
        if minute.passed >= LINES:
            minute.left_out += 1
            return False
        minute.passed += 1
        return True

    def _minute(self, event: tuple[str, int, str], now_s: float) -> _Minute:
        if event not in self._minutes and len(self._minutes) >= EVENTS:
            self._minutes.clear()
        return self._minutes.setdefault(event, _Minute(now_s))


def _event(message: Any) -> str:
    return str(message.get("event")) if isinstance(message, dict) else str(message)


def _tell(record: logging.LogRecord, left_out: int) -> None:
    if not left_out:
        return
    if isinstance(record.msg, dict):
        record.msg = {**record.msg, "left_out": left_out}
    else:
        record.msg = f"{record.msg} ({left_out} more like this were left out)"
