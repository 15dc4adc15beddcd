from __future__ import annotations

import asyncio
from typing import cast

from structlog.testing import capture_logs

from mergescale.server.unread import SLOW_BYTES_S, Outlet, Unread
from support.aio import aio, turns


class Pipe:
    """A transport whose reader is the test."""

    def __init__(self, size_bytes: int = 0) -> None:
        self.size_bytes = size_bytes
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.size_bytes

    def abort(self) -> None:
        self.aborted = True


def outlet(unread: Unread, size_bytes: int) -> tuple[Outlet, Pipe]:
    """Return a connection that has just written so much."""
    pipe = Pipe(size_bytes)
    made = Outlet(cast("asyncio.Transport", pipe), unread, pipe.abort)
    made.written()
    return made, pipe


@aio
async def test_who_gets_on_is_left_alone() -> None:
    """As slow as 1 KiB a second, to the last byte; then nothing is remembered."""
    unread = Unread(look_s=10)
    slow, pipe = outlet(unread, 25 * SLOW_BYTES_S)
    for left in (15, 5, 0):
        pipe.size_bytes = left * SLOW_BYTES_S
        slow.look()
        assert unread.held == ({slow: pipe.size_bytes} if left else {})
    assert not pipe.aborted


@aio
async def test_who_does_not_get_on_ends() -> None:
    """One byte less than that, also of an answer that is shorter; it is told once."""
    unread = Unread(look_s=10)
    for size_bytes, left_bytes in ((1 << 20, (1 << 20) - 10 * SLOW_BYTES_S + 1), (300, 1)):
        slow, pipe = outlet(unread, size_bytes)
        pipe.size_bytes = left_bytes
        with capture_logs() as logs:
            slow.look()
        assert (pipe.aborted, unread.held) == (True, {})
        assert [entry["event"] for entry in logs] == ["edge.dropped"]


@aio
async def test_a_busy_connection_is_not_taken_for_a_slow_one() -> None:
    """It has always just written something of the same size; when it stops it is looked at."""
    unread = Unread(look_s=10)
    busy, pipe = outlet(unread, 300)
    for _ in range(3):
        busy.written()
        busy.look()
        assert not pipe.aborted
    busy.look()
    assert pipe.aborted


@aio
async def test_looks_come_by_themselves_and_end() -> None:
    """A timer for each connection that has something to get rid of, and for no other."""
    unread = Unread(look_s=0.01)
    gone, gone_pipe = outlet(unread, 1 << 20)
    stays, stays_pipe = outlet(unread, 1 << 20)
    stays_pipe.size_bytes = 0
    stays.shrunk()
    gone.shrunk()
    while not gone_pipe.aborted:  # noqa: ASYNC110 - as `aio.until`
        await asyncio.sleep(0)
    await turns()
    assert (stays_pipe.aborted, unread.held) == (False, {})
    idle, _ = outlet(unread, 0)
    assert (idle._timer, stays._timer, gone._timer) == (None, None, None)


@aio
async def test_all_of_them_together_have_a_bound() -> None:
    """Beyond it whoever waits longest ends; who has read everything meanwhile does not."""
    unread = Unread(look_s=10, room_bytes=1000)
    read, read_pipe = outlet(unread, 400)
    pipes = [outlet(unread, 200)[1] for _ in range(3)]
    read_pipe.size_bytes = 0
    pipes += [outlet(unread, 300)[1] for _ in range(4)]
    assert [pipe.aborted for pipe in pipes] == [True] * 3 + [True] + [False] * 3
    assert not read_pipe.aborted
    assert sum(unread.held.values()) == 900
    for one in list(unread.held):
        one.closed()
    assert (unread.held, unread._total_bytes) == ({}, 0)
    assert read not in unread.held
