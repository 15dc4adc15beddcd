from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from mergescale.domain.record import Put
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import Role, User
from mergescale.kernel.errors import Conflict
from mergescale.kernel.ids import AuthKeyId, NodeId, ReplicaId, Revision, TailnetName, UserId
from mergescale.state import authkeys, nodes, presence, users
from mergescale.state.authkeys import Wanted
from mergescale.state.engine import BATCH_LIMIT, Engine, EngineStopped
from mergescale.state.outcome import Decision, Outcome, outcome
from mergescale.state.ports import Fence, LeaseLost, StoreConflict, StoreUnavailable
from mergescale.state.registration import Answer, Refused, Registered, register
from support.aio import until
from support.clock import START, FakeClock
from support.journal import MemoryFeed, MemoryJournal
from support.machines import Machine, shown
from support.worlds import REPLICA

DEFAULT = TailnetName("default")
LAPTOP = Machine("laptop")


@dataclass
class Running:
    """An engine, its feed, and the task that runs it."""

    engine: Engine
    feed: MemoryFeed
    clock: FakeClock = field(default_factory=FakeClock)


@asynccontextmanager
async def running(journal: MemoryJournal) -> AsyncIterator[Running]:
    """Run an engine on the journal for the length of the block."""
    feed, clock = MemoryFeed(), FakeClock()
    engine = await Engine.open(DEFAULT, journal, feed, clock)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(engine.run())
        try:
            yield Running(engine, feed, clock)
        finally:
            engine.stop()


async def all_of(engine: Engine, decisions: list[Decision[Any]]) -> list[Any]:
    """Apply all at once; return answers and errors in order."""
    return await asyncio.gather(*map(engine.apply, decisions), return_exceptions=True)


def key(text: str = "k", **wanted: Any) -> Decision[Any]:
    if "tags" not in wanted:
        wanted["user"] = "alice@example.com"
    return authkeys.create(AuthKeyId(text), shown(text).secret_hash, Wanted(**wanted))


async def with_alice(engine: Engine, **wanted: Any) -> None:
    await engine.apply(users.create("alice@example.com"))
    await engine.apply(key(**wanted))


def test_answer_is_durable_visible_and_published() -> None:
    """When `apply` returns, the journal has it, readers see it, and the feed was told once."""

    async def scenario() -> None:
        journal = MemoryJournal()
        async with running(journal) as run:
            alice = await run.engine.apply(users.create("alice@example.com"))
            assert alice == User(UserId(1), "alice@example.com", "alice", Role.MEMBER, START)
            assert run.engine.snapshot.users == {1: alice}
            assert run.engine.snapshot.revision == 1
            assert len(journal.batches[DEFAULT]) == 1
            [(before, after, change)] = run.feed.published
            assert (before.revision, after) == (0, run.engine.snapshot)
            assert change.users == {1}

    asyncio.run(scenario())


def test_one_turn_is_one_batch_and_one_publication() -> None:
    """Decisions that are pending together share a transaction and a publication."""

    async def scenario() -> None:
        journal = MemoryJournal()
        async with running(journal) as run:
            many = [users.create(f"u{n}@x.y") for n in range(BATCH_LIMIT + 1)]
            made = await all_of(run.engine, many)
            assert [user.id for user in made] == list(range(1, BATCH_LIMIT + 2))
            assert [change.users for _, _, change in run.feed.published] == [
                frozenset(range(1, BATCH_LIMIT + 1)),
                {BATCH_LIMIT + 1},
            ]
            assert len(journal.batches[DEFAULT]) == 2

    asyncio.run(scenario())


def test_refused_decision_fails_alone() -> None:
    """A refusal, or a bug, reaches its caller only; the rest of the batch stands."""

    def broken(snapshot: Snapshot, now: object) -> Outcome[None]:
        raise ZeroDivisionError

    async def scenario() -> None:
        async with running(MemoryJournal()) as run:
            first, twice, bug, last = await all_of(
                run.engine,
                [users.create("a@x"), users.create("A@x"), broken, users.create("b@x")],
            )
            assert isinstance(twice, Conflict)
            assert isinstance(bug, ZeroDivisionError)
            assert run.engine.snapshot.users == {1: first, 2: last}
            assert len(run.feed.published) == 1

    asyncio.run(scenario())


def test_failed_commit_changes_nothing_and_tells_nobody() -> None:
    """If the store does not take it, snapshot, journal and feed are as before (S29)."""

    async def scenario() -> None:
        journal = MemoryJournal()
        async with running(journal) as run:
            await run.engine.apply(users.create("a@x"))
            before, told = run.engine.snapshot, len(run.feed.published)
            journal.fail_next = StoreUnavailable("disk full")
            # The refusal rests on what the batch did before it, so it fails with the batch.
            answers = await all_of(run.engine, [users.create("b@x"), users.create("b@x")])
            assert [type(answer) for answer in answers] == [StoreUnavailable] * 2
            assert run.engine.snapshot is before
            assert len(run.feed.published) == told
            assert len(journal.batches[DEFAULT]) == 1
            again = await run.engine.apply(users.create("b@x"))
            assert again.id == 2

    asyncio.run(scenario())


def test_what_the_store_cannot_take_fails_alone() -> None:
    """A write that a constraint refuses does not take down those it shared a batch with."""

    class Picky(MemoryJournal):
        async def commit(self, *args: Any) -> Revision:
            if any(getattr(write.record, "login", "") == "taken@x" for write in args[2]):
                raise StoreConflict("unique")
            return await super().commit(*args)

    async def scenario() -> None:
        async with running(Picky()) as run:
            names = ["a@x", "taken@x", "b@x"]
            answers = await all_of(run.engine, [users.create(name) for name in names])
            assert [type(answer) for answer in answers] == [User, StoreConflict, User]
            assert set(run.engine.snapshot.by_login) == {"a@x", "b@x"}
            assert len(run.feed.published) == 2

    asyncio.run(scenario())


def test_decision_without_writes_costs_no_commit() -> None:
    """What changes nothing is answered without a transaction or a publication."""

    async def scenario() -> None:
        journal = MemoryJournal()
        async with running(journal) as run:
            before = run.engine.snapshot
            assert await run.engine.apply(presence.sweep(frozenset())) == 0
            assert run.engine.snapshot is before
            assert journal.batches[DEFAULT] == []
            assert run.feed.published == []

    asyncio.run(scenario())


def test_second_replica_decides_again() -> None:
    """Whoever was second takes in what it missed, tells it, and decides on the newer snapshot."""

    async def scenario() -> None:
        journal = MemoryJournal()
        async with running(journal) as one, running(journal) as two:
            await one.engine.apply(users.create("a@x"))
            with pytest.raises(Conflict):
                await two.engine.apply(users.create("A@x"))
            bob = await two.engine.apply(users.create("b@x"))
            assert bob.id == 2
            assert two.engine.snapshot.revision == 2
            assert [change.users for _, _, change in two.feed.published] == [{1}, {2}]
            for before, after, _ in two.feed.published:
                assert after.revision == before.revision + 1
            await one.engine.apply(users.create("c@x"))
            assert one.engine.snapshot.users.keys() == {1, 2, 3}

    asyncio.run(scenario())


def test_a_write_without_its_lease_fails_alone() -> None:
    """Whoever decides under a lease that is lost is refused; the rest of the batch stands."""

    async def scenario() -> None:
        journal = MemoryJournal()
        journal.leases["duties"] = 2
        async with running(journal) as run:
            answers = await asyncio.gather(
                run.engine.apply(users.create("late@x"), Fence("duties", 1)),
                run.engine.apply(users.create("anybody@x")),
                run.engine.apply(users.create("holder@x"), Fence("duties", 2)),
                return_exceptions=True,
            )
            assert [type(answer) for answer in answers] == [LeaseLost, User, User]
            assert set(run.engine.snapshot.by_login) == {"anybody@x", "holder@x"}

    asyncio.run(scenario())


def test_what_the_journal_was_seen_at_is_taken_in() -> None:
    """Told of a newer revision, the engine publishes what it lacks; told of its own, nothing."""

    async def scenario() -> None:
        journal = MemoryJournal()
        async with running(journal) as one, running(journal) as two:
            await one.engine.apply(users.create("a@x"))
            two.engine.saw(Revision(1))
            await until(lambda: two.engine.snapshot.revision == 1)
            two.engine.saw(Revision(1))
            await two.engine.apply(users.create("b@x"))
            assert [change.users for _, _, change in two.feed.published] == [{1}, {2}]

    asyncio.run(scenario())


def test_whoever_cannot_catch_up_loads_anew() -> None:
    """What is stored is told as a whole, and what is gone with it; nodes keep their slots."""

    async def scenario() -> None:
        journal = MemoryJournal()
        async with running(journal) as one, running(journal) as two:
            await with_alice(one.engine, reusable=True)
            for name in ("laptop", "phone"):
                await one.engine.apply(register(Machine(name).asks(auth="k")))
            two.engine.saw(Revision(4))
            await until(lambda: two.engine.snapshot.revision == 4)
            slot = two.engine.snapshot.slot(NodeId(2))
            await one.engine.apply(presence.connected(NodeId(2), REPLICA))
            await one.engine.apply(nodes.delete(NodeId(1)))
            journal.trimmed = Revision(6)
            two.engine.saw(Revision(6))
            await until(lambda: two.engine.snapshot.revision == 6)
            before, after, change = two.feed.published[-1]
            assert before.revision == 4
            assert change.nodes == {1, 2}
            assert change.users == {1}
            assert (after.nodes, after.presence) == (
                one.engine.snapshot.nodes,
                one.engine.snapshot.presence,
            )
            assert after.slot(NodeId(2)) == slot

    asyncio.run(scenario())


def test_what_was_caught_up_is_told_even_if_the_commit_fails() -> None:
    """What other replicas did stands and is published, whatever comes of one's own batch."""

    class FailsSecond(MemoryJournal):
        async def commit(self, *args: Any) -> Revision:
            if args[2] and self.batches.get(DEFAULT) and args[1] == 1:
                raise StoreUnavailable("disk full")
            return await super().commit(*args)

    async def scenario() -> None:
        journal = FailsSecond()
        async with running(journal) as one, running(journal) as two:
            await one.engine.apply(users.create("a@x"))
            with pytest.raises(StoreUnavailable):
                await two.engine.apply(users.create("b@x"))
            assert two.engine.snapshot.users.keys() == {1}
            assert [change.users for _, _, change in two.feed.published] == [{1}]

    asyncio.run(scenario())


def test_endless_race_is_given_up() -> None:
    """A replica that is never first stops trying and says so."""

    class Busy(MemoryJournal):
        async def commit(self, *args: Any) -> Revision:
            number = len(self.batches[DEFAULT]) + 1
            rival = User(UserId(number), f"r{number}@x", "r", Role.MEMBER, START)
            self.batches[DEFAULT].append((Put(rival),))
            return await super().commit(*args)

    async def scenario() -> None:
        async with running(Busy()) as run:
            with pytest.raises(StoreUnavailable, match="too many times"):
                await run.engine.apply(users.create("a@x"))
            assert run.engine.snapshot.user_by_login("a@x") is None

    asyncio.run(scenario())


def test_restart_loads_what_was_committed() -> None:
    """A new engine on the same journal has the same snapshot."""

    async def scenario() -> None:
        journal = MemoryJournal()
        async with running(journal) as run:
            await with_alice(run.engine)
            await run.engine.apply(register(LAPTOP.asks(auth="k")))
            await run.engine.apply(presence.connected(NodeId(1), REPLICA))
            await run.engine.apply(nodes.rename(NodeId(1), "boss"))
            kept = run.engine.snapshot
        opened = await Engine.open(DEFAULT, journal, MemoryFeed(), FakeClock())
        for name in ("users", "nodes", "auth_keys", "counters", "names", "by_node_key", "revision"):
            assert getattr(opened.snapshot, name) == getattr(kept, name)
        assert opened.snapshot.presence == {1: {REPLICA}}

    asyncio.run(scenario())


def test_stopped_engine_refuses_and_finishes() -> None:
    """What was pending at the stop is carried out; what comes after is refused."""

    async def scenario() -> None:
        journal = MemoryJournal()
        async with running(journal) as run:
            pending = asyncio.create_task(run.engine.apply(users.create("a@x")))
            await asyncio.sleep(0)
            run.engine.stop()
            with pytest.raises(EngineStopped):
                await run.engine.apply(users.create("b@x"))
            assert (await pending).id == 1
        assert len(journal.batches[DEFAULT]) == 1

    asyncio.run(scenario())


def test_nobody_waits_for_a_cancelled_engine() -> None:
    """When the engine's task is cancelled, callers under way are told."""

    class Hanging(MemoryJournal):
        async def commit(self, *args: Any) -> Revision:
            await asyncio.Event().wait()
            raise AssertionError

    async def scenario() -> None:
        engine = await Engine.open(DEFAULT, Hanging(), MemoryFeed(), FakeClock())
        task = asyncio.create_task(engine.run())
        under_way = asyncio.create_task(engine.apply(users.create("a@x")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        queued = asyncio.create_task(engine.apply(users.create("b@x")))
        await asyncio.sleep(0)
        task.cancel()
        answers = await asyncio.gather(under_way, queued, return_exceptions=True)
        assert [type(answer) for answer in answers] == [EngineStopped] * 2
        assert engine.snapshot.users == {}

    asyncio.run(scenario())


def test_caller_that_left_is_not_decided() -> None:
    """A request whose caller was cancelled before its turn is left out."""

    async def scenario() -> None:
        journal = MemoryJournal()
        engine = await Engine.open(DEFAULT, journal, MemoryFeed(), FakeClock())
        gone = asyncio.create_task(engine.apply(users.create("a@x")))
        await asyncio.sleep(0)
        gone.cancel()
        stays = asyncio.create_task(engine.apply(users.create("b@x")))
        await asyncio.sleep(0)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(engine.run())
            assert (await stays).id == 1
            engine.stop()
        assert len(engine.snapshot.users) == 1

    asyncio.run(scenario())


# ---------------------------------------------------------------------------- registration races


def admitted(answers: list[Answer]) -> set[NodeId]:
    return {answer.node.id for answer in answers if isinstance(answer, Registered)}


@pytest.mark.parametrize("replicas", [1, 2])
def test_fifty_machines_race_for_one_shot_key(replicas: int) -> None:
    """Fifty machines with one single-use key make exactly one node, also over replicas (S1)."""

    async def scenario() -> None:
        journal = MemoryJournal()
        async with running(journal) as setup:
            await with_alice(setup.engine)
        async with running(journal) as one, running(journal) as two:
            engines = [one.engine, two.engine][:replicas]
            answers = await asyncio.gather(
                *(
                    engines[n % replicas].apply(register(Machine(f"m{n}").asks(auth="k")))
                    for n in range(50)
                )
            )
            assert len(admitted(answers)) == 1
            assert answers.count(Refused("the auth key was used already")) == 49
        final = await Engine.open(DEFAULT, journal, MemoryFeed(), FakeClock())
        assert len(final.snapshot.nodes) == 1
        assert final.snapshot.auth_keys[AuthKeyId("k")].uses == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("fresh_keys", [False, True])
def test_one_machine_twenty_times_is_one_node(fresh_keys: bool) -> None:
    """A machine that registers twenty times at once is one node with one pair of addresses (S5)."""

    async def scenario() -> None:
        async with running(MemoryJournal()) as run:
            await with_alice(run.engine, reusable=True)
            requests = [LAPTOP.asks(auth="k", number=n if fresh_keys else 0) for n in range(20)]
            answers = await all_of(run.engine, [register(request) for request in requests])
            assert admitted(answers) == {1}
            snapshot = run.engine.snapshot
            assert (len(snapshot.nodes), len(snapshot.addresses), len(snapshot.names)) == (1, 2, 1)
            assert len(snapshot.by_node_key) == 1

    asyncio.run(scenario())


def test_replicas_give_different_names_and_addresses() -> None:
    """Machines that join at two replicas at once never share a name or an address."""

    async def scenario() -> None:
        journal = MemoryJournal()
        async with running(journal) as setup:
            await with_alice(setup.engine, reusable=True)
        async with running(journal) as one, running(journal) as two:
            engines = [one.engine, two.engine]
            same_name = Machine("box").asks().hostinfo
            answers = await asyncio.gather(
                *(
                    engines[n % 2].apply(
                        register(Machine(f"m{n}").asks(auth="k", hostinfo=same_name))
                    )
                    for n in range(30)
                )
            )
            assert admitted(answers) == set(range(1, 31))
        final = await Engine.open(DEFAULT, journal, MemoryFeed(), FakeClock())
        assert len(final.snapshot.addresses) == 60
        assert set(final.snapshot.names) == {"box", *(f"box-{n}" for n in range(1, 30))}

    asyncio.run(scenario())


def test_time_is_read_for_each_batch() -> None:
    """A decision gets the time of its turn."""

    def when(snapshot: Snapshot, now: Any) -> Outcome[Any]:
        return outcome(snapshot, (), now)

    async def scenario() -> None:
        async with running(MemoryJournal()) as run:
            first = await run.engine.apply(when)
            run.clock.advance(timedelta(hours=1))
            assert (first, await run.engine.apply(when)) == (START, START + timedelta(hours=1))

    asyncio.run(scenario())


def test_other_replicas_presence_counts() -> None:
    """A node that is connected at two replicas is online until both let go."""

    async def scenario() -> None:
        journal = MemoryJournal()
        async with running(journal) as setup:
            await with_alice(setup.engine)
            await setup.engine.apply(register(LAPTOP.asks(auth="k")))
        async with running(journal) as one, running(journal) as two:
            await one.engine.apply(presence.connected(NodeId(1), REPLICA))
            other = ReplicaId("replica-2")
            await two.engine.apply(presence.connected(NodeId(1), other))
            await one.engine.apply(presence.disconnected(NodeId(1), REPLICA))
            await two.engine.apply(users.create("tick@x"))
            assert two.engine.snapshot.presence == {1: {other}}
            await two.engine.apply(presence.disconnected(NodeId(1), other))
            last = two.engine.snapshot
            assert not last.online(NodeId(1))
            assert last.nodes[NodeId(1)] == replace(last.nodes[NodeId(1)], last_seen=START)

    asyncio.run(scenario())
