"""What a tailnet tells its forge, put together: statuses of the branch, plans of pull requests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from mergescale.gitops.forges import proposal, proposals
from mergescale.gitops.forges.making import forge_of
from mergescale.gitops.forges.place import ForgePlace
from mergescale.gitops.forges.proposals import Proposals, Terms
from mergescale.gitops.forges.reporter import CHANNEL, Delivering, Reporter, Words
from mergescale.gitops.forges.tokens import given
from mergescale.gitops.git.trials import Trials
from mergescale.gitops.outbox import Outbox
from mergescale.gitops.status import time_json
from mergescale.gitops.vault import FORGE, Vault
from mergescale.kernel.clock import Clock
from mergescale.kernel.errors import NotFound
from mergescale.kernel.ids import TailnetName
from mergescale.plan.redaction import Redaction
from mergescale.server.forge_places import place_of
from mergescale.server.ground import Ground
from mergescale.server.settings import Repository
from mergescale.server.tailnet import Parts, store_of
from mergescale.store.outbox import SqlLetters

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Reporting:
    """Of one tailnet; `api.callers.ForgeDesk`.

    Attributes:
        place: the project on its forge.
        letters: what is known of pull requests is there, at every replica.
    """

    tailnet: TailnetName
    place: ForgePlace
    vault: Vault
    letters: SqlLetters
    outbox: Outbox
    reporter: Reporter
    proposals: Proposals
    clock: Clock

    async def run(self) -> None:
        """Report for ever; cancel it when the duties are another replica's."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.reporter.run())
            group.create_task(self.proposals.run(self.clock, self.outbox, self.letters))

    async def pulls(self) -> list[dict[str, Any]]:
        """Return the open pull requests, ready for JSON.

        Raises:
            StoreUnavailable: the database could not be read.
        """
        return proposal.shown(await self.letters.states(self.tailnet, proposals.CHANNEL))

    async def told(self) -> dict[str, Any]:
        """Return where the forge is, what may be told of its token, and what is not told yet.

        Raises:
            StoreUnavailable: the database could not be read.
        """
        held = (await self.vault.held()).get(FORGE)
        token = None
        if held is not None and held.bound_to == self.place.api_url:
            token = {"created": time_json(held.created), "fingerprint": held.fingerprint}
        waiting, trouble = await self.letters.backlog(self.tailnet, CHANNEL)
        asking = await self.letters.wanted(self.tailnet, proposals.CHANNEL, proposals.TROUBLE)
        return {
            "kind": str(self.place.kind),
            "apiUrl": self.place.api_url,
            "project": self.place.project,
            "token": token,
            "waiting": waiting,
            "trouble": trouble or proposal.trouble(asking) or None,
        }

    async def give(self, words: Mapping[str, Any], *, by: str) -> None:
        """Keep what opens the forge's API, in the place of what did.

        Raises:
            Invalid: it is nothing of the kind.
            StoreUnavailable: the database did not take it.
        """
        await self.vault.put(
            FORGE, self.place.api_url, given({"kind": "token", **words}, self.place.kind)
        )
        log.info("gitops.forge-token-set", tailnet=self.tailnet, by=by)

    async def take(self, *, by: str) -> None:
        """Forget it.

        Raises:
            NotFound: there is none.
            StoreUnavailable: the database did not take it.
        """
        if not await self.vault.drop(FORGE):
            raise NotFound("there is no token of the forge")
        log.info("gitops.forge-token-dropped", tailnet=self.tailnet, by=by)


def reportings_of(base: Ground, parts: Sequence[Parts]) -> dict[TailnetName, Reporting]:
    """Return what tells the forges of the tailnets that have one.

    Raises:
        Invalid: the configuration does not say where a forge is, or has two tell it the same.
    """
    found: dict[TailnetName, Reporting] = {}
    for part in parts:
        tailnet, repositories = part.engine.snapshot.tailnet, base.settings.repositories
        place, repository = place_of(tailnet, repositories), repositories[tailnet]
        if part.watcher is not None and repository is not None and place is not None:
            found[tailnet] = _reporting(base, part, repository, place)
    return found


def _reporting(base: Ground, part: Parts, repository: Repository, place: ForgePlace) -> Reporting:
    watcher, engine, forge = part.watcher, part.engine, repository.forge
    assert watcher is not None and forge is not None  # noqa: S101, PT018 - the caller looked
    source, tailnet = watcher.source, engine.snapshot.tailnet
    vault, letters = base.vault(tailnet), SqlLetters(base.database)
    level, branch = Redaction(forge.redact), source.followed.branch
    words = Words(forge.contexts, forge.plan_url, source.folder, branch, level)
    reporter = Reporter(engine, lambda: watcher.shown, part.outbox, letters, words)
    ca_file = str(repository.ca_file or "")
    telling, asking = (forge_of(place, vault, base.clock, ca_file) for _ in range(2))
    delivering = Delivering(telling, forge.contexts)
    part.outbox.register(CHANNEL, delivering.deliver)
    part.outbox.register(proposals.CHANNEL, _kept)
    terms = Terms(
        branch=source.branch,
        redact=level,
        limits=watcher.safeguards.limits,
        forks=forge.forks,
        poll_s=forge.poll_s,
        replan_s=forge.replan_s,
    )
    store = store_of(base.settings, tailnet)
    trials = Trials(source, store, part.keeper, repository.trust.demands)
    seen = Proposals(engine, asking, trials, reporter, terms)
    seen.proving = part.proving
    watcher.listeners.extend((reporter.listen, seen.listen))
    return Reporting(tailnet, place, vault, letters, part.outbox, reporter, seen, base.clock)


async def _kept(_key: str, _body: Mapping[str, Any]) -> None:
    """Deliver to nobody: that it is kept is all."""
