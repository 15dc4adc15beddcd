"""Costly beginnings come a few in each turn of the loop."""

from __future__ import annotations

import asyncio

from mergescale.fanout.turns import Turns
from support.aio import until


def test_few_do_not_wait() -> None:
    """What fits into a turn is done at once, in the caller's own frame."""

    async def story() -> tuple[list[bool], list[int]]:
        turns, done = Turns(at_once=2), list[int]()
        return [turns.take(lambda n=n: done.append(n)) for n in range(2)], done  # type: ignore[misc]

    assert asyncio.run(story()) == ([True, True], [0, 1])


def test_many_come_in_order_a_few_each_turn() -> None:
    """The rest waits, keeps its order, and each turn of the loop takes as many as the first did."""

    async def story() -> list[list[int]]:
        turns, done = Turns(at_once=2), list[int]()
        for number in range(5):
            turns.take(lambda n=number: done.append(n))  # type: ignore[misc]
        seen = [list(done)]
        while len(turns):
            await asyncio.sleep(0)
            seen.append(list(done))
        return seen

    assert asyncio.run(story()) == [[0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4]]


def test_who_comes_later_does_not_overtake() -> None:
    """While somebody waits, a newcomer waits behind them, whatever room the turn has."""

    async def story() -> list[int]:
        turns, done = Turns(at_once=2), list[int]()
        for number in range(3):
            turns.take(lambda n=number: done.append(n))  # type: ignore[misc]
        await asyncio.sleep(0)
        for number in (3, 4):
            turns.take(lambda n=number: done.append(n))  # type: ignore[misc]
        await until(lambda: not len(turns))
        return done

    assert asyncio.run(story()) == [0, 1, 2, 3, 4]


def test_who_gave_up_waiting_costs_nobody_a_turn() -> None:
    """A cancelled wait is passed over without harm to those behind it."""

    async def story() -> list[str]:
        turns, done = Turns(at_once=1), list[str]()

        async def wait(name: str) -> None:
            await turns.mine()
            done.append(name)

        tasks = [asyncio.create_task(wait(name)) for name in "abc"]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return done

    assert asyncio.run(story()) == ["a", "c"]
