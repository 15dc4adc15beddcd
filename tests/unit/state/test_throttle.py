from __future__ import annotations

from datetime import timedelta

import pytest

from mergescale.state.ports import StoreUnavailable
from mergescale.state.throttle import Allowance, Throttle, TooManyAttempts, place
from support.aio import aio
from support.clock import FakeClock

GUESSES = Allowance("guess", 3, 10.0)


class MemoryFailures:
    """The twin of the table: what several replicas share."""

    def __init__(self) -> None:
        self.forgiven_s: dict[str, float] = {}
        self.adds = 0
        self.broken = False

    async def add(self, key: str, cost_s: float, now_s: float) -> float:
        if self.broken:
            raise StoreUnavailable("gone")
        self.adds += 1
        self.forgiven_s[key] = max(self.forgiven_s.get(key, 0.0), now_s) + cost_s
        return self.forgiven_s[key]


async def fails(throttle: Throttle, times: int, who: str = "ana") -> None:
    for _ in range(times):
        throttle.check(GUESSES, who)
        await throttle.failed(GUESSES, who)


@aio
async def test_who_failed_too_often_waits_until_one_is_forgiven() -> None:
    """The burst is let through, then one attempt each interval; others are not concerned."""
    clock = FakeClock()
    throttle = Throttle(MemoryFailures(), clock)
    await fails(throttle, 3)
    with pytest.raises(TooManyAttempts) as refused:
        throttle.check(GUESSES, "ana")
    assert refused.value.retry_after_s == 10
    throttle.check(GUESSES, "bob")
    clock.advance(timedelta(seconds=10))
    await fails(throttle, 1)
    with pytest.raises(TooManyAttempts):
        throttle.check(GUESSES, "ana")
    clock.advance(timedelta(seconds=30))
    await fails(throttle, 3)


@aio
async def test_failures_count_at_every_replica() -> None:
    """What failed at one is known to another by the next failure there."""
    shared, clock = MemoryFailures(), FakeClock()
    one, other = Throttle(shared, clock), Throttle(shared, clock)
    await fails(one, 3)
    await fails(other, 1)
    for replica in (one, other):
        with pytest.raises(TooManyAttempts):
            replica.check(GUESSES, "ana")


@aio
async def test_a_look_costs_the_database_nothing() -> None:
    """Neither a healthy request nor one that has to wait is written."""
    shared = MemoryFailures()
    throttle = Throttle(shared, FakeClock())
    for _ in range(100):
        throttle.check(GUESSES, "ana")
    await fails(throttle, 3)
    for _ in range(100):
        with pytest.raises(TooManyAttempts):
            throttle.check(GUESSES, "ana")
    assert shared.adds == 3


@aio
async def test_without_its_store_a_replica_counts_alone() -> None:
    """A database that is gone opens no door."""
    shared = MemoryFailures()
    shared.broken = True
    throttle = Throttle(shared, FakeClock())
    await fails(throttle, 3)
    with pytest.raises(TooManyAttempts):
        throttle.check(GUESSES, "ana")


@aio
async def test_memory_is_bounded() -> None:
    """A flood from everywhere makes it forget the oldest, not grow."""
    throttle = Throttle(MemoryFailures(), FakeClock())
    for number in range(10_050):
        await throttle.failed(GUESSES, str(number))
    assert len(throttle._forgiven_at) == 10_000


@pytest.mark.parametrize(
    ("host", "counted_as"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
    ],
)
def test_a_place_is_what_one_network_has(host: str, counted_as: str) -> None:
    """Whoever has an IPv6 network has 2^64 addresses in it."""
    assert place(host) == counted_as
