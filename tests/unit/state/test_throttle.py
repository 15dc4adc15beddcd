from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

import pytest

from mergescale.state.logins import LIFE, MAX_LOGINS
from mergescale.state.throttle import (
    LOGIN_NETWORK,
    LOGIN_PLACE,
    Allowance,
    Throttle,
    TooManyAttempts,
    neighbourhood,
    place,
)
from support.aio import aio
from support.clock import FakeClock
from support.failures import MemoryFailures

GUESSES = Allowance("guess", 3, 10.0)
WIDE = Allowance("wide", 8, 10.0, "doors")


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


@aio
async def test_what_is_taken_counts_at_once_and_everywhere() -> None:
    """Fifty takers at one moment get the burst; another replica knows by its first one."""
    shared, clock = MemoryFailures(), FakeClock()
    one, other = Throttle(shared, clock), Throttle(shared, clock)
    takers = (one.take((GUESSES, "ana"), (WIDE, "all")) for _ in range(50))
    done = await asyncio.gather(*takers, return_exceptions=True)
    refused = [str(error) for error in done if isinstance(error, TooManyAttempts)]
    assert len(done) - len(refused) == GUESSES.burst
    assert set(refused) == {"too many failed attempts, try again in 10 s"}
    await other.take((GUESSES, "ana"), (WIDE, "all"))
    with pytest.raises(TooManyAttempts):
        await other.take((GUESSES, "ana"), (WIDE, "all"))


@aio
async def test_what_has_to_wait_for_one_bound_counts_for_none() -> None:
    """A flood from one place does not use up what its neighbours may do."""
    throttle = Throttle(MemoryFailures(), FakeClock())
    for _ in range(50):
        with contextlib.suppress(TooManyAttempts):
            await throttle.take((GUESSES, "ana"), (WIDE, "all"))
    for _ in range(WIDE.burst - GUESSES.burst):
        await throttle.take((GUESSES, str(_)), (WIDE, "all"))
    with pytest.raises(TooManyAttempts, match="too many doors, try again"):
        await throttle.take((GUESSES, "eve"), (WIDE, "all"))


def test_nobody_fills_the_logins_alone() -> None:
    """What one place, or one network, begins within the life of a login leaves room for others."""
    for allowance in (LOGIN_PLACE, LOGIN_NETWORK):
        assert allowance.burst + LIFE.total_seconds() / allowance.every_s <= MAX_LOGINS / 2


@pytest.mark.parametrize(
    ("host", "counted_as", "near"),
    [
        ("192.0.2.7", "192.0.2.7", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/64", "fe80::/48"),
        ("", "unknown", "unknown"),
    ],
)
def test_a_place_is_what_one_network_has(host: str, counted_as: str, near: str) -> None:
    """Whoever has an IPv6 network has 2^64 addresses in it; a site has 2^16 of those."""
    assert (place(host), neighbourhood(host)) == (counted_as, near)
