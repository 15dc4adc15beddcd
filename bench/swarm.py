"""All clients of a run, and waiting until each of them has heard something."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from bench.link import Server
from bench.machine import Machine
from bench.messages import text
from bench.tailnet import home

#: LIMIT: the longest any step of a run may take; the largest is 5,000 full maps of 5,000 peers.
STEP_S: Final = 300.0


class Hearing:
    """Who has heard what is waited for, and when.

    Args:
        machines: those who have to hear it.
        wanted: what the text of a message must contain; empty takes any message, unread.
        keep_every: keeps the payload of each so many-th, to be looked at later.

    Attributes:
        at: machine number -> when its message had arrived whole, monotonic seconds.
        payloads: machine number -> what was kept.
        distinct: the different payloads that matched.
    """

    def __init__(
        self, machines: Sequence[Machine], wanted: bytes = b"", *, keep_every: int = 0
    ) -> None:
        self.at: dict[int, float] = {}
        self.payloads: dict[int, bytes] = {}
        self.distinct: set[bytes] = set()
        self._missing = {machine.number for machine in machines}
        self._wanted = wanted
        self._keep_every = keep_every
        self._done = asyncio.Event()

    def __call__(self, machine: Machine, payload: bytes, at: float) -> None:
        """Take a message of a machine; see `machine.Heard`."""
        number = machine.number
        if number not in self._missing or (self._wanted and not self._matches(payload)):
            return
        self._missing.discard(number)
        self.at[number] = at
        if self._keep_every and number % self._keep_every == 0:
            self.payloads[number] = payload
        if not self._missing:
            self._done.set()

    async def all(self, within_s: float = STEP_S) -> float:
        """Wait until everybody has heard it; return when the last one did.

        Raises:
            TimeoutError: somebody has not; says how many.
        """
        try:
            async with asyncio.timeout(within_s):
                if self._missing:
                    await self._done.wait()
        except TimeoutError:
            raise TimeoutError(f"{len(self._missing)} clients have not heard it") from None
        return max(self.at.values())

    def _matches(self, payload: bytes) -> bool:
        if payload in self.distinct:
            return True
        if self._wanted not in text(payload):
            return False
        self.distinct.add(payload)
        return True


class Swarm:
    """The clients.

    Args:
        servers: the clients are dealt out to them (`tailnet.home`).
        size: how many.

    Attributes:
        machines: by number.
    """

    def __init__(self, servers: Sequence[Server], size: int) -> None:
        homes = [servers[home(number, len(servers))] for number in range(size)]
        self.machines = [Machine(number, server) for number, server in enumerate(homes)]

    def __len__(self) -> int:
        return len(self.machines)

    async def register(self, auth_key: Callable[[int], str], at_once: int) -> None:
        """Connect and register all of them, `at_once` at a time."""

        async def one(machine: Machine) -> None:
            await machine.connect()
            await machine.register(auth_key(machine.number))

        await each(self.machines, one, at_once)

    async def introduce(self, at_once: int = 200) -> None:
        """Let each say its endpoints and disco key, as clients do before anybody can reach them."""
        await each(self.machines, Machine.update, at_once)

    async def poll(
        self, machines: Sequence[Machine] | None = None, *, keep_every: int = 0
    ) -> Hearing:
        """Open connections where there are none, and map streams, all at once; wait for full maps."""
        chosen = self.machines if machines is None else machines

        async def one(machine: Machine) -> None:
            if machine.link is None or machine.link.lost:
                await machine.connect()
            machine.poll()

        hearing = Hearing(chosen, keep_every=keep_every)
        with self.listening(hearing, chosen):
            await each(chosen, one, len(chosen))
            await hearing.all()
        return hearing

    @property
    def quiet_s(self) -> float:
        """How long a silence has to be to be the last: more clients, longer pauses between news."""
        return 1.0 + len(self) / 1000

    def disconnect(self) -> None:
        """Break all connections."""
        for machine in self.machines:
            machine.disconnect()

    @contextmanager
    def listening(
        self, hearing: Hearing, machines: Iterable[Machine] | None = None
    ) -> Iterator[None]:
        """Pass what these machines hear to `hearing`."""
        chosen = self.machines if machines is None else list(machines)
        for machine in chosen:
            machine.heard = hearing
        try:
            yield
        finally:
            for machine in chosen:
                machine.heard = None

    async def quiet(self, within_s: float = STEP_S) -> None:
        """Wait until no client has heard news for `quiet_s`.

        Raises:
            TimeoutError: it never gets quiet.
        """
        deadline = time.monotonic() + within_s
        before, since = self.messages, time.monotonic()
        while time.monotonic() - since < self.quiet_s:
            await asyncio.sleep(0.05)
            now = self.messages
            if now != before:
                before, since = now, time.monotonic()
            if time.monotonic() > deadline:
                raise TimeoutError("the clients never stopped hearing news")

    @property
    def messages(self) -> int:
        """How many messages all clients have heard."""
        return sum(machine.messages for machine in self.machines)

    @property
    def tries(self) -> int:
        """How many connections failed."""
        return sum(machine.tries for machine in self.machines)


async def each(
    machines: Sequence[Machine], do: Callable[[Machine], Awaitable[object]], at_once: int
) -> None:
    """Do something with each machine, so many at a time; the first failure ends it."""
    waiting = iter(machines)

    async def worker() -> None:
        for machine in waiting:
            await do(machine)

    async with asyncio.timeout(STEP_S), asyncio.TaskGroup() as group:
        for _ in range(min(at_once, len(machines))):
            group.create_task(worker())
