"""What ``/health`` finds of each part of the server, well and ill."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from mergescale.api import health as api_health
from mergescale.api.health import Checked, Health
from mergescale.kernel.keys import PrivateKey
from mergescale.relay.limits import Limits
from mergescale.relay.service import DerpService
from mergescale.relay.stun import StunServer
from mergescale.server.health import Relaying, health_checks
from mergescale.server.tailnet import Parts
from mergescale.state.engine import Engine
from mergescale.state.follower import Follower
from mergescale.state.replica import Replica, Terms
from mergescale.state.tailnets import Tailnets
from mergescale.store.database import Database
from support.aio import aio, run
from support.clock import FakeClock, FakeEntropy
from support.journal import MemoryFeed, MemoryJournal
from support.leases import MemoryLeases
from support.stores import HOME
from support.worlds import key_bytes

LEASE_S = 9.0
ENGINE = f"engine:{HOME}"
WELL = Checked(Health.PASS)


class BelievingClock(FakeClock):
    """A moved clock that may doubt the system's."""

    doubts = ""

    def doubt(self) -> str:
        return self.doubts


class Member:
    """A connection to the relay that says nothing."""

    def write(self, data: bytes) -> None:
        """Take nothing."""

    def abort(self) -> None:
        """Go."""


@dataclass
class Watched:
    """The parts of a server that health looks at, without the server."""

    database: Database
    engine: Engine
    clock: BelievingClock
    leases: MemoryLeases
    replica: Replica
    follower: Follower
    stun: StunServer = field(default_factory=lambda: StunServer("127.0.0.1", 0))
    service: DerpService = field(
        default_factory=lambda: DerpService(
            PrivateKey(key_bytes("relay")), lambda _: True, FakeEntropy("relay"), Limits(pending=1)
        )
    )
    listening: bool = True

    async def found(self, name: str) -> Checked:
        """Return what the check of one part finds."""
        nothing = cast("Any", None)
        part = Parts(self.engine, nothing, nothing, None, nothing, self.replica, *[nothing] * 4)
        relaying = Relaying(self.service, self.stun, lambda: self.listening)
        checks = health_checks(self.database, self.clock, [part], relaying, self.follower)
        return await api_health._look(checks[name])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "mergescale.db"


@asynccontextmanager
async def watched(file: Path) -> AsyncIterator[Watched]:
    """Make the parts, with an engine that runs."""
    clock, journal, database = BelievingClock(), MemoryJournal(), None
    leases = MemoryLeases(clock)
    terms = Terms(LEASE_S, alone=False)
    replica = await Replica.join(leases, clock, FakeEntropy("one"), terms)
    engine = await Engine.open(HOME, journal, MemoryFeed(), clock)
    follower = Follower(Tailnets({HOME: engine}), journal)
    database = Database.open(f"sqlite+aiosqlite:///{file}")
    running = asyncio.create_task(engine.run())
    try:
        yield Watched(database, engine, clock, leases, replica, follower)
    finally:
        engine.stop()
        await running
        await database.dispose()


def test_a_database_that_is_none_fails(file: Path) -> None:
    """A file with something else in it is told by the driver's code, an empty one is well."""

    async def finds(expected: Checked) -> None:
        async with watched(file) as server:
            assert await server.found("database") == expected

    run(finds(WELL))
    file.write_bytes(b"garbage " * 200)
    run(finds(Checked(Health.FAIL, "the database could not be read (SQLITE_NOTADB)")))


@aio
async def test_a_clock_in_doubt_is_a_warning(file: Path) -> None:
    """The server goes on by its own time."""
    async with watched(file) as server:
        assert await server.found("clock") == WELL
        server.clock.doubts = "it stepped"
        assert await server.found("clock") == Checked(Health.WARN, "it stepped")


@aio
async def test_an_engine_that_takes_no_decision_fails(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it says so, or says nothing."""
    monkeypatch.setattr(api_health, "CHECK_S", 0.05)
    async with watched(file) as server:
        assert await server.found(ENGINE) == WELL
        running, idle = (
            server.engine,
            await Engine.open(HOME, MemoryJournal(), MemoryFeed(), server.clock),
        )
        server.engine = idle
        assert await server.found(ENGINE) == Checked(Health.FAIL, "no answer within 0.05 s")
        server.engine = running
        running.stop()
        assert await server.found(ENGINE) == Checked(Health.FAIL, "the server is stopping")


@pytest.mark.enable_socket
@aio
async def test_stun_that_nobody_answers_is_a_warning(file: Path) -> None:
    """Before its sockets are open, and after they were closed."""
    async with watched(file) as server:
        silent = Checked(Health.WARN, "nobody answers stun")
        assert await server.found("stun") == silent
        await server.stun.start()
        assert await server.found("stun") == WELL
        server.stun.stop()
        assert await server.found("stun") == silent


@aio
async def test_a_relay_that_takes_nobody_is_a_warning(file: Path) -> None:
    """Its port is closed, or more wait at the door than may."""
    async with watched(file) as server:
        assert await server.found("relay") == WELL
        server.listening = False
        assert await server.found("relay") == Checked(Health.WARN, "the relay takes no connections")
        server.listening = True
        stranger = Member()
        server.service.meet(stranger)
        crowded = Checked(Health.WARN, "more connections to the relay than it can admit")
        assert await server.found("relay") == crowded
        server.service.met(stranger)
        assert await server.found("relay") == WELL


@aio
async def test_the_lease_says_who_has_the_duties(file: Path) -> None:
    """This process and since when, or another; a lease that is not renewed is a warning."""
    async with watched(file) as server:
        since = server.clock.now().isoformat(timespec="seconds")
        ours = Checked(Health.PASS, f"this process has the duties since {since}")
        assert await server.found("lease") == ours
        server.clock.advance(timedelta(seconds=LEASE_S / 3))
        await server.replica.beat()
        assert await server.found("lease") == ours

        server.leases.away = True
        server.clock.advance(timedelta(seconds=LEASE_S + 1))
        await server.replica.turn([])
        assert await server.found("lease") == Checked(
            Health.WARN, "not renewed for 10 s: it may be another's"
        )

        server.leases.away = False
        terms = Terms(LEASE_S, alone=False)
        await Replica.join(server.leases, server.clock, FakeEntropy("two"), terms)
        await server.replica.beat()
        assert await server.found("lease") == Checked(Health.PASS, "another process has the duties")


@aio
async def test_a_journal_that_was_not_read_for_long_is_a_warning(file: Path) -> None:
    """What other processes decided since then is not known here."""
    async with watched(file) as server:
        unread = Checked(Health.WARN, "the journal was not read yet")
        assert await server.found("following") == unread
        await server.follower.look()
        assert await server.found("following") == Checked(
            Health.PASS, "the journal was read 0.0 s ago"
        )
        server.follower.looked_s -= 7.0
        assert await server.found("following") == Checked(
            Health.WARN, "the journal was read 7.0 s ago"
        )


@aio
async def test_without_others_and_without_a_relay_there_is_nothing_to_say(file: Path) -> None:
    """One process on SQLite has no lease to lose."""
    async with watched(file) as server:
        nothing = cast("Any", None)
        part = Parts(server.engine, nothing, nothing, None, nothing, server.replica, *[nothing] * 4)
        checks = health_checks(server.database, server.clock, [part])
    assert list(checks) == ["database", "clock", ENGINE]
