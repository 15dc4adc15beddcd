"""The webhooks of the process, put together: one for each tailnet that follows a repository."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from litestar.handlers import HTTPRouteHandler
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from mergescale.api.hooks import PATH, Hooks, hook_handler
from mergescale.gitops.hooks import MAX_BODY_BYTES
from mergescale.gitops.webhooks import Webhook, address
from mergescale.kernel.ids import TailnetName
from mergescale.server.ground import Ground
from mergescale.server.tailnet import Parts
from mergescale.state.throttle import Throttle

#: The server's own key that addresses are made of.
_KEY: Final = "webhooks"


@dataclass(frozen=True, slots=True, eq=False)
class Webhooks(Collector):
    """Those of this process; also what measures them.

    Attributes:
        by_address: by what stands for the tailnet in the address.
        strangers: outcomes at addresses that there are not.
    """

    by_address: Mapping[str, tuple[TailnetName, Webhook]] = field(default_factory=dict)
    strangers: Counter[str] = field(default_factory=Counter)

    @property
    def by_tailnet(self) -> dict[TailnetName, Webhook]:
        """Return the same by the tailnet's name."""
        return dict(self.by_address.values())

    def handlers(self, throttle: Throttle) -> list[HTTPRouteHandler]:
        """Return what takes deliveries; nothing where no repository is followed."""
        if not self.by_address:
            return []
        known = {name: webhook for name, (_, webhook) in self.by_address.items()}
        return [hook_handler(Hooks(known, self.strangers, throttle, MAX_BODY_BYTES))]

    def collect(self) -> Iterable[Metric]:
        """Yield the one family that there is."""
        family = CounterMetricFamily(
            "mergescale_webhooks",
            "Deliveries of webhooks; no tailnet for addresses that there are not",
            labels=["tailnet", "outcome"],
        )
        counted: list[tuple[str, Counter[str]]] = [("", self.strangers)]
        counted += [(name, webhook.counts) for name, webhook in self.by_address.values()]
        for name, counts in counted:
            for outcome, count in sorted(counts.items()):
                family.add_metric([name, outcome], count)
        yield family


async def webhooks_of(base: Ground, parts: Sequence[Parts]) -> Webhooks:
    """Return them; measured from now on."""
    key, found = (await base.key(_KEY)).raw, {}
    for part in parts:
        if part.watcher is not None:
            tailnet = part.engine.snapshot.tailnet
            name, vault = address(key, tailnet), base.vault(tailnet)
            url = f"{base.settings.url}{PATH}/{name}"
            webhook = Webhook(url, vault, part.watcher, base.clock, base.entropy)
            found[name] = tailnet, webhook
    webhooks = Webhooks(found)
    base.metrics.registry.register(webhooks)
    return webhooks
