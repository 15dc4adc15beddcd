"""``mergescale serve`` in this process, with a lag meter on its event loop.

    python -m bench.served <file of samples>        settings from the environment

The server is the product's own ``serve`` and knows nothing of this. The meter asks the loop to be called
every `PERIOD_S` and writes how late it was; that late is every client that had something to say then.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import uvloop

from mergescale.server.lifecycle import serve
from mergescale.server.logs import set_up_logs
from mergescale.server.settings import Settings

PERIOD_S: Final = 0.01
_FLUSH_EVERY: Final = 50
_SAMPLE: Final = struct.Struct("<dd")


async def measure_lag(path: Path) -> None:
    """Write pairs of (when it should have run, how late it was), seconds, for ever."""
    loop = asyncio.get_running_loop()
    with path.open("ab", buffering=0) as file:
        samples: list[bytes] = []
        while True:
            due = loop.time() + PERIOD_S
            await asyncio.sleep(PERIOD_S)
            late_s = loop.time() - due
            samples.append(_SAMPLE.pack(time.monotonic() - late_s, late_s))
            if len(samples) >= _FLUSH_EVERY:
                file.write(b"".join(samples))
                samples.clear()


def read_lag(path: Path, start: float, end: float) -> list[float]:
    """Return how late the loop was, in seconds, between two monotonic times."""
    return [late_s for at, late_s in _samples(path) if start <= at <= end]


def _samples(path: Path) -> Iterator[tuple[float, float]]:
    data = path.read_bytes() if path.exists() else b""
    yield from _SAMPLE.iter_unpack(data[: len(data) // _SAMPLE.size * _SAMPLE.size])


async def _both(settings: Settings, samples: Path) -> None:
    meter = asyncio.create_task(measure_lag(samples))
    try:
        await serve(settings, print)
    finally:
        meter.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await meter


def main() -> None:
    """Serve until SIGTERM."""
    settings = Settings()
    set_up_logs(settings.log_level, settings.log_format)
    uvloop.run(_both(settings, Path(sys.argv[1])))


if __name__ == "__main__":
    main()
