"""The parts of one tailnet, and what connects them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from mergescale.domain.change import Change
from mergescale.domain.snapshot import Snapshot
from mergescale.fanout.hub import Hub
from mergescale.fanout.presence import Presence
from mergescale.gitops.credentials.installations import Installations
from mergescale.gitops.credentials.keeper import Keeper
from mergescale.gitops.delivery import Delivery
from mergescale.gitops.git.child import Fetcher
from mergescale.gitops.operators.overriding import Overrides
from mergescale.gitops.outbox import Outbox
from mergescale.gitops.reconcile import Reconciler
from mergescale.gitops.trying.containment import Bounds, Trials
from mergescale.gitops.trying.proving import Proving
from mergescale.gitops.vault import Vault
from mergescale.gitops.watch import Watcher
from mergescale.kernel.clock import Clock
from mergescale.kernel.ids import NodeId, TailnetName
from mergescale.server.safeguards import safeguards
from mergescale.server.settings import Repository, Settings
from mergescale.server.watched import source_of
from mergescale.state import presence, upkeep
from mergescale.state.engine import Engine, EngineStopped
from mergescale.state.ports import Feed, StoreUnavailable
from mergescale.state.replica import Replica

log = structlog.get_logger()

#: How often time's work is looked for: ephemeral nodes, expired logins, keys long ended.
UPKEEP_S = 5.0


class Feeds:
    """Tells several; filled while the server is put together, because a hub needs its engine."""

    def __init__(self) -> None:
        self._feeds: list[Feed] = []

    def add(self, feed: Feed) -> None:
        """Tell this one too from now on."""
        self._feeds.append(feed)

    def publish(self, before: Snapshot, after: Snapshot, change: Change) -> None:
        """Tell everyone, in the order they were added."""
        for feed in self._feeds:
            feed.publish(before, after, change)


class Announcer:
    """Logs what operators look for when a policy changes; a `Feed`."""

    def publish(self, before: Snapshot, after: Snapshot, change: Change) -> None:  # noqa: ARG002
        """Log a commit that came into force."""
        if after.deployment is not None and after.deployment is not before.deployment:
            log.info(
                "policy.applied",
                tailnet=after.tailnet,
                commit=after.deployment.commit,
                revision=after.revision,
            )


class Gatekeeper:
    """Lets the relay look at its guests again when nodes went away; a `Feed`."""

    def __init__(self, recheck: Callable[[], object]) -> None:
        self._recheck = recheck

    def publish(self, before: Snapshot, after: Snapshot, change: Change) -> None:
        """Ask for a recheck when a node key stopped being known."""
        gone = (before.nodes[node].node_key for node in change.nodes if node in before.nodes)
        if any(key not in after.by_node_key for key in gone):
            self._recheck()


@dataclass(slots=True)
class Parts:
    """One tailnet at work.

    Attributes:
        replica: says whether the work that is done once falls to this process.
        watcher: None when the tailnet follows no repository.
        outbox: takes what is to be said to the outside.
        delivery: counts who was sent what is in force.
        overrides: ends what operators wanted for a while.
        keeper: of the repository's credential; None without a repository.
        proving: tries policies before they are taken.
    """

    engine: Engine
    hub: Hub
    presence: Presence
    watcher: Watcher | None
    clock: Clock
    replica: Replica
    outbox: Outbox
    delivery: Delivery
    overrides: Overrides
    proving: Proving
    keeper: Keeper | None = None

    async def tell(self) -> None:
        """Keep what is said to the outside, and deliver it while this replica has the duties."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.outbox.run())
            group.create_task(self.replica.on_duty(self.outbox.dispatch))

    async def watch(self) -> None:
        """Follow the repository, while this replica has the duties."""
        if self.watcher is None:
            return
        if self.replica.duties is None:
            self.watcher.stand_by()
        await self.replica.on_duty(self._watch)

    async def _watch(self) -> None:
        if self.watcher is not None:
            try:
                await self.watcher.run()
            finally:
                self.watcher.stand_by()

    async def maintain(self) -> None:
        """Do time's work, for ever, while this replica has the duties."""
        while True:
            await asyncio.sleep(UPKEEP_S)
            fence = self.replica.duties
            if fence is None or not upkeep.due(self.engine.snapshot, self.clock.now()):
                continue
            try:
                await self.engine.apply(upkeep.sweep(), fence)
            except (StoreUnavailable, EngineStopped) as error:
                log.warning(
                    "upkeep.failed", tailnet=self.engine.snapshot.tailnet, why=error.message
                )


def presence_of(engine: Engine, replica: Replica) -> Presence:
    """Return what turns streams of this replica into presence decisions."""

    async def submit(node: NodeId, connected: bool) -> None:  # noqa: FBT001 - fanout's port
        seat = replica.seat
        if connected:
            await engine.apply(presence.connected(node, seat.id), seat.fence)
        else:
            await engine.apply(presence.disconnected(node, seat.id), seat.fence)

    attendance = Presence(submit, asyncio.get_running_loop())
    replica.on_new_seat.append(attendance.repeat)
    return attendance


def proving_of(engine: Engine, settings: Settings, watcher: Watcher | None) -> Proving:
    """Return what tries the tailnet's policies before they are taken, by the watcher too."""
    bounds = Bounds(settings.compiler_timeout_s, settings.compiler_memory_mib << 20)
    proving = Proving(engine, Trials(settings.state_dir / "git", bounds))
    if watcher is not None:
        watcher.proving = proving
    return proving


def watcher_of(
    engine: Engine,
    repository: Repository | None,
    settings: Settings,
    clock: Clock,
    replica: Replica,
    delivery: Delivery,
    keeper: Keeper | None,
) -> Watcher | None:
    """Return what follows the tailnet's repository, None if there is none.

    Raises:
        Invalid: the configuration names no acceptable repository.
    """
    if repository is None:
        return None
    source, store = source_of(repository), store_of(settings, engine.snapshot.tailnet)
    fetcher = Fetcher(source, store, repository.trust.demands, keeper)
    reconciler = Reconciler(engine, source, fetcher, clock, lambda: replica.duties)
    reconciler.sharing.delivery = delivery
    reconciler.safeguards = safeguards(repository.gates, repository.freeze)
    return Watcher(reconciler, fetcher, source, clock)


def keeper_of(
    engine: Engine, repository: Repository | None, vault: Vault, clock: Clock
) -> Keeper | None:
    """Return what keeps the credential of the tailnet's repository, None if there is none.

    Raises:
        Invalid: the configuration names no acceptable repository.
    """
    if repository is None:
        return None
    source, ca_file = source_of(repository), str(repository.ca_file or "")
    return Keeper(engine, source, vault, Installations(clock, ca_file), ca_file)


def store_of(settings: Settings, tailnet: TailnetName) -> Path:
    """Return where what is fetched of a tailnet's repository is kept."""
    return settings.state_dir / "git" / f"{tailnet}.git"
