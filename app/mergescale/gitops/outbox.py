"""Saying things to the outside: commit statuses, comments, notifications.

What is said is a *desired state* of one key, not an event: whoever says a state again says nothing
new, a newer state replaces one that was not delivered yet, and after a restart everything is simply
said again. It is kept in the database before anybody outside hears of it, so that what was once
kept is delivered by whichever replica has the duties, however long the outside is away.

* INVARIANT(monotonic): of one key at most one state is on its way, older ones before newer ones,
  and what is not final (``pending``) never follows what is.
* Saying never blocks and never raises: nothing of the outside holds up a look at the repository.
* A channel that was told to wait (`Retry` with `everything`) is left alone for that long; other
  channels go on meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import structlog

from mergescale.domain.letter import Letter
from mergescale.gitops.watch import Pace
from mergescale.kernel.clock import Clock
from mergescale.kernel.errors import MergescaleError
from mergescale.kernel.ids import TailnetName
from mergescale.state.ports import Fence, LeaseLost, StoreUnavailable

log = structlog.get_logger()

#: LIMIT: one delivery; a forge that has not answered by then is asked again later.
DELIVERY_S: Final = 60.0
#: LIMIT: how old a state may be that nobody took; also how long delivered ones are remembered.
KEPT: Final = timedelta(days=30)
#: LIMIT: what is said while the database takes nothing; the oldest goes first.
MAX_NOTED: Final = 4096
_FIRST_RETRY_S: Final = 1.0
LONGEST_RETRY_S: Final = 600.0
#: LIMIT: what the outside may ask us to wait.
_LONGEST_WAIT_S: Final = 3600.0
_TIDY_S: Final = 3600.0
#: What another replica kept for a channel is found after this at the latest.
_LOOK_S: Final = 5.0
_JITTER: Final = 0.2

#: Tells the outside that `key` is to be as `body` says; returns when the outside has taken it.
Deliver = Callable[[str, Mapping[str, Any]], Awaitable[None]]
#: Returns the lease on what only one replica does, None while another one holds it.
Duties = Callable[[], Fence | None]


class Retry(MergescaleError):
    """Raised by a delivery that may well succeed later.

    Attributes:
        after_s: what the outside asked us to wait; None if it did not.
        everything: whether it is the channel that fails, and not this letter.
        longest_s: pauses do not grow beyond it; where somebody is about to mend it.
    """

    code = "outbox.retry"

    def __init__(
        self,
        message: str,
        *,
        after_s: float | None = None,
        everything: bool = False,
        longest_s: float = LONGEST_RETRY_S,
    ) -> None:
        super().__init__(message)
        self.after_s = after_s
        self.everything = everything
        self.longest_s = longest_s


class Undeliverable(MergescaleError):
    """Raised by a delivery that the outside refused for good; another state is another letter."""

    code = "outbox.undeliverable"


class Letters(Protocol):
    """Where letters are kept; `store.outbox.SqlLetters`."""

    async def put(self, tailnet: TailnetName, letter: Letter, fence: Fence | None) -> bool:
        """Want this state from now on; return whether that is news."""
        ...

    async def due(self, tailnet: TailnetName, channel: str, now: datetime) -> list[Letter]:
        """Return what is to be delivered now, the longest due first."""
        ...

    async def next_due(self, tailnet: TailnetName, channel: str, now: datetime) -> datetime | None:
        """Return when the next of those that are not due yet is, None if there is none."""
        ...

    async def delivered(self, tailnet: TailnetName, letter: Letter, trouble: str = "") -> None:
        """Note that this state was delivered, or with `trouble` that it never will be."""
        ...

    async def failed(
        self, tailnet: TailnetName, letter: Letter, due: datetime, trouble: str
    ) -> None:
        """Note that a delivery failed; nothing happens if another state is wanted by now."""
        ...

    async def prune(self, tailnet: TailnetName, before: datetime) -> int:
        """Forget what was wanted before that and never changed since."""
        ...


class Says(Protocol):
    """Takes what is to be said; `Outbox`."""

    def say(
        self,
        channel: str,
        key: str,
        body: Mapping[str, Any],
        *,
        final: bool = True,
        quiet: bool = False,
    ) -> None:
        """Want the state `body` of `key` from now on; never blocks, never raises.

        Args:
            channel: who delivers it.
            key: which thing outside.
            body: its state, ready for JSON.
            final: false for a state that is only on the way (``pending``): it never replaces one
                that is final.
            quiet: true for a state in which nothing is wrong: the first of its key, it is no news.
        """
        ...


@dataclass(slots=True)
class _Channel:
    """One way out, and how it goes there.

    Attributes:
        news: set when there may be something to deliver.
        failures: deliveries that failed one after another.
        trouble: why the last one did, empty if it went well.
    """

    name: str
    deliver: Deliver
    news: asyncio.Event = field(default_factory=asyncio.Event)
    failures: int = 0
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class _Pause:
    """How long nothing is to be done.

    Attributes:
        whatever: whether news do not end it.
    """

    left_s: float
    whatever: bool = False


class Outbox:
    """Of one tailnet. `run` it at every replica, `dispatch` where the duties are.

    Args:
        tailnet: whose it is.
        letters: where what was said is kept.
        clock: for what is due.
        duties: what is said rests on them while this replica has them.
        pace: pauses.
    """

    def __init__(
        self,
        tailnet: TailnetName,
        letters: Letters,
        clock: Clock,
        duties: Duties,
        pace: Pace | None = None,
    ) -> None:
        self._tailnet = tailnet
        self._letters = letters
        self._clock = clock
        self._duties = duties
        self._pace = pace or Pace()
        self._channels: dict[str, _Channel] = {}
        self._noted: dict[tuple[str, str], tuple[Letter, Fence | None]] = {}
        self._said = asyncio.Event()

    def register(self, channel: str, deliver: Deliver) -> None:
        """Let `deliver` take what is said to the channel; before `dispatch` runs."""
        self._channels[channel] = _Channel(channel, deliver)

    def say(
        self,
        channel: str,
        key: str,
        body: Mapping[str, Any],
        *,
        final: bool = True,
        quiet: bool = False,
    ) -> None:
        """Want the state `body` of `key` from now on; see `Says.say`."""
        before = self._noted.pop((channel, key), None)
        if before is not None and before[0].final and not final:
            self._noted[channel, key] = before
            return
        text = json.dumps(body, sort_keys=True, separators=(",", ":"))
        letter = Letter(channel, key, 0, text, final, 0, self._clock.now(), quiet)
        self._noted[channel, key] = letter, self._duties()
        while len(self._noted) > MAX_NOTED:
            del self._noted[next(iter(self._noted))]
        self._said.set()

    async def run(self) -> None:
        """Keep what is said, for ever; cancel it to stop."""
        failures = 0
        while True:
            await self._said.wait()
            self._said.clear()
            try:
                await self._keep()
                failures = 0
            except Exception as error:
                if not isinstance(error, StoreUnavailable):
                    # What breaks the keeping of one must not end the server.
                    log.exception("outbox.keeping-broke", tailnet=self._tailnet)
                self._said.set()
                await self._pace.sleep(self._backoff_s(failures))
                failures += 1

    async def dispatch(self) -> None:
        """Deliver what was kept, for ever; cancel it when the duties are another replica's."""
        async with asyncio.TaskGroup() as group:
            for channel in self._channels.values():
                group.create_task(self._serve(channel))
            group.create_task(self._tidy())

    async def _keep(self) -> None:
        """Bring what is noted into the table; what could not be stays noted.

        Raises:
            StoreUnavailable: the database did not take something.
        """
        for key, (letter, fence) in list(self._noted.items()):
            try:
                news = await self._letters.put(self._tailnet, letter, fence)
            except LeaseLost:
                # Whoever has it by now looks for itself, and says what it finds.
                news = False
            # Said anew meanwhile, it stays noted.
            if (noted := self._noted.get(key)) is not None and noted[0] is letter:
                del self._noted[key]
            if news and letter.channel in self._channels:
                self._channels[letter.channel].news.set()

    async def _serve(self, channel: _Channel) -> None:
        """Deliver one letter after another."""
        while True:
            channel.news.clear()
            try:
                pause = await self._round(channel)
            except Exception as error:
                channel.failures += 1
                pause = _Pause(self._backoff_s(channel.failures), whatever=True)
                if not isinstance(error, StoreUnavailable):
                    # A channel that breaks must end neither the others nor the server.
                    log.exception("outbox.channel-broke", channel=channel.name)
            if pause.whatever:
                await self._pace.sleep(pause.left_s)
            else:
                await self._rest(channel, pause.left_s)

    async def _round(self, channel: _Channel) -> _Pause:
        """Deliver what is due now.

        Raises:
            StoreUnavailable: the database was not read or did not take something.
        """
        found = await self._letters.due(self._tailnet, channel.name, self._clock.now())
        for letter in found:
            pause = await self._deliver(channel, letter)
            if pause is not None:
                return pause
        if found:
            return _Pause(0.0)
        now = self._clock.now()
        due = await self._letters.next_due(self._tailnet, channel.name, now)
        left_s = _LOOK_S if due is None else (due - now).total_seconds()
        return _Pause(min(left_s, _LOOK_S))

    async def _deliver(self, channel: _Channel, letter: Letter) -> _Pause | None:
        """Deliver one letter and note what came of it; return how long the channel is to rest."""
        try:
            async with asyncio.timeout(DELIVERY_S):
                await channel.deliver(letter.key, json.loads(letter.body))
        except Retry as error:
            return await self._later(channel, letter, error)
        except TimeoutError:
            silent = Retry("there was no answer in time", everything=True)
            return await self._later(channel, letter, silent)
        except Undeliverable as error:
            log.warning(
                "outbox.undeliverable",
                tailnet=self._tailnet, channel=channel.name, key=letter.key, why=error.message,
            )  # fmt: skip
            await self._letters.delivered(self._tailnet, letter, error.message)
            return None
        except Exception:
            # One letter that breaks its delivery must not end the others.
            log.exception("outbox.broke", tailnet=self._tailnet, channel=channel.name)
            return await self._later(channel, letter, Retry("delivering it failed in the server"))
        self._tell(channel, "")
        channel.failures = 0
        await self._letters.delivered(self._tailnet, letter)
        return None

    async def _later(self, channel: _Channel, letter: Letter, error: Retry) -> _Pause | None:
        """Note a delivery that failed; return how long the channel is to rest, if it is."""
        channel.failures += 1
        doublings = channel.failures if error.everything else letter.attempts + 1
        wait_s = min(self._backoff_s(doublings - 1), error.longest_s)
        if error.after_s is not None:
            # At least what was asked for; the jitter comes on top of it.
            wait_s = min(error.after_s, _LONGEST_WAIT_S) * (1 + _JITTER * self._pace.chance() / 2)
        self._tell(channel, error.message)
        due = self._clock.now() + timedelta(seconds=wait_s)
        await self._letters.failed(self._tailnet, letter, due, error.message)
        return _Pause(wait_s, whatever=True) if error.everything else None

    def _tell(self, channel: _Channel, trouble: str) -> None:
        """Log what changed: a lasting trouble is worth one line, not one for each attempt."""
        before, channel.trouble = channel.trouble, trouble
        if trouble and trouble != before:
            log.warning("outbox.trouble", tailnet=self._tailnet, channel=channel.name, why=trouble)
        elif before and not trouble:
            log.info("outbox.recovered", tailnet=self._tailnet, channel=channel.name)

    def _backoff_s(self, failures: int) -> float:
        """Return how long to wait after so many failures before this one."""
        wait_s: float = min(_FIRST_RETRY_S * 2 ** min(failures, 16), LONGEST_RETRY_S)
        return wait_s * (1 + _JITTER * (self._pace.chance() - 0.5))

    async def _rest(self, channel: _Channel, left_s: float) -> None:
        """Pause, or until there is news."""
        heard = asyncio.ensure_future(channel.news.wait())
        slept = asyncio.ensure_future(self._pace.sleep(left_s))
        try:
            await asyncio.wait({heard, slept}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            heard.cancel()
            slept.cancel()

    async def _tidy(self) -> None:
        """Forget what is old."""
        while True:
            with contextlib.suppress(StoreUnavailable):
                await self._letters.prune(self._tailnet, self._clock.now() - KEPT)
            await self._pace.sleep(_TIDY_S)
