"""The notifications of the process, put together: from looks to the outbox, and from there out."""

from __future__ import annotations

from collections.abc import Sequence

from mergescale.gitops.notices.channels import Channels
from mergescale.gitops.notices.teller import PREFIX, Teller
from mergescale.gitops.notices.topics import Seen
from mergescale.gitops.watch import Watcher
from mergescale.kernel.ids import TailnetName
from mergescale.server.ground import Ground
from mergescale.server.tailnet import Parts
from mergescale.state.ports import Past


def channels_of(base: Ground, parts: Sequence[Parts], past: Past) -> dict[TailnetName, Channels]:
    """Return the channels of the tailnets that follow a repository; told of every look from now on.

    Args:
        base: of the process.
        parts: of the tailnets.
        past: what was in force before.
    """
    found: dict[TailnetName, Channels] = {}
    for part in parts:
        tailnet = part.engine.snapshot.tailnet
        repository = base.settings.repositories[tailnet]
        if part.watcher is None or repository is None:
            continue
        configured = repository.notify
        found[tailnet] = Channels(
            tailnet, configured, base.vault(tailnet), base.clock, base.entropy
        )
        found[tailnet].past = past
        for name, deliver in found[tailnet].deliveries.items():
            part.outbox.register(f"{PREFIX}{name}", deliver)
        if configured:
            part.watcher.listeners.append(_teller(part, part.watcher, found[tailnet]).heard)
    return found


def _teller(part: Parts, watcher: Watcher, channels: Channels) -> Teller:
    def look(was_in_force: str) -> Seen:
        deployment = part.engine.snapshot.deployment
        return Seen(watcher.shown, deployment, was_in_force, part.clock.now())

    return Teller(part.outbox, list(channels.deliveries), look, lambda: part.replica.duties)
