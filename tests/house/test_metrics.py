"""Metrics are documented, and their labels are bounded."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from prometheus_client.core import Metric

from mergescale.kernel.keys import PrivateKey
from mergescale.relay.service import DerpService
from mergescale.relay.stun import StunServer
from mergescale.server.hooks import Webhooks
from mergescale.server.metrics import Gauges, Metrics
from support.clock import FakeClock, FakeEntropy

ROOT = Path(__file__).parents[2]
#: Every label there is, and what it may say; None: names of configured tailnets.
LABELS: dict[str, set[str] | None] = {
    "tailnet": None,
    "kind": {"full", "delta", "keepalive", "aside"},
    "outcome": {
        *("admitted", "refused", "answered", "ignored", "failed"),
        *("accepted", "repeated", "ping", "unknown", "too-large", "cut-off", "throttled"),
    },
    "reason": {"full", "unknown"},
    "le": None,  # the buckets of histograms, fixed numbers
}


def families() -> Iterable[Metric]:
    metrics = Metrics()
    relay = DerpService(PrivateKey(bytes(range(32))), lambda _: True, FakeEntropy("house"))
    stun = StunServer("127.0.0.1")
    metrics.registry.register(Gauges((), FakeClock(), relay, stun, lambda: 0, lambda: 0))
    webhooks = Webhooks()
    webhooks.strangers["unknown"] += 1
    metrics.registry.register(webhooks)
    return [one for one in metrics.registry.collect() if one.name.startswith("mergescale_")]


def test_every_metric_is_documented_and_every_documented_one_exists() -> None:
    """The README's table and the registry name the same metrics."""
    readme = (ROOT / "README.md").read_text("utf-8")
    table = readme.partition("## Metrics")[2].partition("\n## ")[0]
    told = {name.removesuffix("_total") for name in re.findall(r"`(mergescale_\w+)`", table)}
    assert told == {one.name for one in families()}


def test_labels_are_bounded() -> None:
    """No label holds what a client says."""
    seen = 0
    for family in families():
        for sample in family.samples:
            for label, value in sample.labels.items():
                allowed = LABELS[label]
                assert allowed is None or value in allowed, (family.name, label, value)
                seen += 1
    assert seen > 50


def test_every_metric_has_words() -> None:
    """Whoever explores them in Prometheus reads what they are."""
    assert [one.name for one in families() if not one.documentation] == []
