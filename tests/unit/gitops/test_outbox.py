"""What is said gets outside: late, again after a restart, but never in the wrong order."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from mergescale.domain.letter import Letter
from mergescale.gitops.outbox import KEPT, MAX_NOTED, Retry, Undeliverable
from mergescale.gitops.watch import Pace
from mergescale.state.ports import Fence
from support.aio import aio, turns, until
from support.clock import START, FakeClock
from support.letters import HOME, MemoryLetters, Pauses, dispatching, working


class Outside:
    """What letters are delivered to.

    Attributes:
        heard: (key, state) of everything it took.
        refusals: raised by the next deliveries, one each.
    """

    def __init__(self, *refusals: Exception) -> None:
        self.heard: list[tuple[str, str]] = []
        self.refusals = list(refusals)

    async def deliver(self, key: str, body: Mapping[str, Any]) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.heard.append((key, body["state"]))


def say(state: str) -> dict[str, str]:
    return {"state": state}


@aio
async def test_a_newer_state_replaces_one_that_nobody_took_yet() -> None:
    """Of what is said while nobody delivers only the last state of each key goes out."""
    outside, letters = Outside(), MemoryLetters()
    async with working(letters, FakeClock()) as outbox:
        outbox.register("forge", outside.deliver)
        outbox.say("forge", "a", say("pending"), final=False)
        await turns()
        outbox.say("forge", "a", say("failure"))
        outbox.say("forge", "b", say("pending"), final=False)
        outbox.say("forge", "b", say("success"))
        await turns()
        async with dispatching(outbox):
            await until(lambda: len(outside.heard) == 2)
            await turns()
    assert sorted(outside.heard) == [("a", "failure"), ("b", "success")]


@aio
async def test_a_late_pending_never_follows_what_is_final() -> None:
    """Neither in one breath nor long after, by this process or after a restart."""
    outside, letters, clock = Outside(), MemoryLetters(), FakeClock()
    for _ in range(2):
        async with working(letters, clock) as outbox:
            outbox.register("forge", outside.deliver)
            async with dispatching(outbox):
                outbox.say("forge", "a", say("success"))
                outbox.say("forge", "a", say("pending"), final=False)
                await turns(20)
                outbox.say("forge", "a", say("pending"), final=False)
                await turns(20)
    assert outside.heard == [("a", "success")]


@aio
async def test_an_equal_state_is_no_news() -> None:
    """Said a hundred times it goes out once."""
    outside, letters = Outside(), MemoryLetters()
    async with working(letters, FakeClock()) as outbox:
        outbox.register("forge", outside.deliver)
        async with dispatching(outbox):
            for _ in range(100):
                outbox.say("forge", "a", say("success"))
                await turns(2)
            outbox.say("forge", "a", say("failure"))
            await until(lambda: len(outside.heard) == 2)
    assert outside.heard == [("a", "success"), ("a", "failure")]


@pytest.mark.parametrize(
    ("refusal", "pauses_s"),
    [
        (Retry("away", everything=True), [1.0, 2.0, 4.0, 8.0]),
        (Retry("no token", everything=True, longest_s=3.0), [1.0, 2.0, 3.0, 3.0]),
    ],
)
def test_what_fails_is_tried_again_with_growing_pauses(
    refusal: Retry, pauses_s: list[float]
) -> None:
    """A remote that is away is left alone longer each time, to what the delivery says at most.

    Nothing overtakes meanwhile.
    """

    @aio
    async def check() -> None:
        outside, letters, clock = Outside(*[refusal] * 4), MemoryLetters(), FakeClock()
        pauses = Pauses(clock)
        async with working(letters, clock, pace=pauses.pace) as outbox:
            outbox.register("forge", outside.deliver)
            outbox.say("forge", "a", say("success"))
            outbox.say("forge", "b", say("success"))
            await turns()
            async with dispatching(outbox):
                await until(lambda: len(outside.heard) == 2)
        assert [one for one in pauses.slept_s if one] == pauses_s

    check()


@aio
async def test_what_the_outside_asks_to_wait_is_waited() -> None:
    """Retry-After counts for the whole channel, news included; other channels go on."""
    forge, mail = Outside(Retry("slow down", after_s=90, everything=True)), Outside()
    letters, clock = MemoryLetters(), FakeClock()
    pauses = Pauses(clock)
    async with working(letters, clock, pace=pauses.pace) as outbox:
        outbox.register("forge", forge.deliver)
        outbox.register("mail", mail.deliver)
        outbox.say("forge", "a", say("success"))
        await turns()
        async with dispatching(outbox):
            await until(lambda: not forge.refusals)
            outbox.say("forge", "b", say("success"))
            outbox.say("mail", "c", say("success"))
            await until(lambda: len(forge.heard) == 2)
            await until(lambda: mail.heard)
    (waited,) = (one for one in pauses.slept_s if one > 1)
    assert 90 <= waited <= 100
    assert letters.kept[HOME, "forge", "a"].letter.attempts == 1


@aio
async def test_news_do_not_shorten_what_is_waited() -> None:
    """Whoever was told to wait is not asked again because there is more to say."""
    forge, letters, clock = (
        Outside(Retry("slow down", after_s=90, everything=True)),
        MemoryLetters(),
        FakeClock(),
    )
    over = asyncio.Event()

    async def sleep(seconds: float) -> None:
        if seconds > 60:
            await over.wait()
        await asyncio.sleep(0)

    async with working(letters, clock, pace=Pace(sleep, lambda: 0.5)) as outbox:
        outbox.register("forge", forge.deliver)
        outbox.say("forge", "a", say("success"))
        await turns()
        async with dispatching(outbox):
            await until(lambda: not forge.refusals)
            outbox.say("forge", "b", say("success"))
            await turns(50)
            assert forge.heard == []
            clock.advance(timedelta(seconds=100))
            over.set()
            await until(lambda: len(forge.heard) == 2)


@aio
async def test_one_letter_that_fails_does_not_hold_up_the_others() -> None:
    """What the outside refuses is given up, what breaks the server waits for its own turn."""
    letters, heard = MemoryLetters(), list[str]()

    async def deliver(key: str, _body: Mapping[str, Any]) -> None:
        match key:
            case "a":
                raise Undeliverable("no such commit")
            case "b":
                raise ValueError("a bug")
            case _:
                heard.append(key)

    async with working(letters, FakeClock()) as outbox:
        outbox.register("forge", deliver)
        for key in "abcd":
            outbox.say("forge", key, say("success"))
        await turns()
        async with dispatching(outbox):
            await until(lambda: letters.kept[HOME, "forge", "b"].letter.attempts == 3)
    assert heard == ["c", "d"]
    kept = {key: (one.delivered, one.trouble) for (_, _, key), one in letters.kept.items()}
    assert kept == {
        "a": (1, "no such commit"),
        "b": (0, "delivering it failed in the server"),
        "c": (1, ""),
        "d": (1, ""),
    }


@aio
async def test_a_database_that_is_away_costs_nothing_that_was_said() -> None:
    """It is kept in memory, the newest of each key, within bounds, and kept there afterwards."""
    outside, letters, clock = Outside(), MemoryLetters(away=True), FakeClock()
    async with working(letters, clock) as outbox:
        outbox.register("forge", outside.deliver)
        async with dispatching(outbox):
            for number in range(MAX_NOTED + 1):
                outbox.say("forge", str(number), say("success"))
            await turns(20)
            letters.away = False
            await until(lambda: len(outside.heard) == MAX_NOTED)
    assert "0" not in dict(outside.heard)
    assert outside.heard.count((str(MAX_NOTED), "success")) == 1


@aio
async def test_what_was_kept_is_delivered_after_a_restart() -> None:
    """Also when the delivery was under way: it is made again, and then the newer state."""
    letters, clock, begun = MemoryLetters(), FakeClock(), asyncio.Event()

    async def hang(_key: str, _body: Mapping[str, Any]) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with working(letters, clock) as outbox:
        outbox.register("forge", hang)
        async with dispatching(outbox):
            outbox.say("forge", "a", say("pending"), final=False)
            await begun.wait()
    outside = Outside()
    async with working(letters, clock) as outbox:
        outbox.register("forge", outside.deliver)
        async with dispatching(outbox):
            await until(lambda: outside.heard)
            outbox.say("forge", "a", say("success"))
            await until(lambda: len(outside.heard) == 2)
    assert outside.heard == [("a", "pending"), ("a", "success")]


@aio
async def test_what_rests_on_lost_duties_is_not_said() -> None:
    """Whoever has them by now says what it finds itself."""
    letters, fence = MemoryLetters(), Fence("duties", 1)
    async with working(letters, FakeClock(), duties=lambda: fence) as outbox:
        outbox.say("forge", "a", say("success"))
        await until(lambda: letters.kept)
        letters.lost.add(fence)
        outbox.say("forge", "a", say("failure"))
        outbox.say("forge", "b", say("failure"))
        await turns(20)
    assert [(at[2], one.letter.body) for at, one in letters.kept.items()] == [
        ("a", '{"state":"success"}')
    ]


@aio
async def test_old_letters_are_forgotten() -> None:
    """The table does not grow with the years."""
    letters, clock = MemoryLetters(), FakeClock()
    await letters.put(HOME, Letter("forge", "a", 0, "{}", True, 0, START), None)
    clock.advance(KEPT + timedelta(seconds=1))
    async with working(letters, clock) as outbox, dispatching(outbox):
        await until(lambda: not letters.kept)
