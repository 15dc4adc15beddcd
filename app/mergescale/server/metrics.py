"""What operators can measure: Prometheus metrics, kept at the edges of what they measure.

Histograms are fed where things happen (`Metrics`); what the parts count for themselves is read when
somebody asks (`Gauges`). INVARIANT(bounded): labels take values from fixed lists and the names of
the configured tailnets, never from anything a client says; ``tests/house`` holds the list.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from litestar import Litestar, Response, get
from litestar.handlers import HTTPRouteHandler
from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from mergescale.domain.record import Write
from mergescale.fanout.meter import Kind
from mergescale.gitops.status import Status
from mergescale.kernel.clock import Clock
from mergescale.kernel.ids import Revision, TailnetName
from mergescale.relay.service import DerpService
from mergescale.relay.stun import StunServer
from mergescale.server.tailnet import Parts
from mergescale.state.ports import Fence, Journal

#: How often the event loop is asked how late it is.
PROBE_S: Final = 0.1

_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_BYTES: Final = (64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20)
_WRITES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """Histograms of this process; implements `fanout.meter.Meter`.

    Attributes:
        registry: everything that ``/metrics`` tells.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        size = self._histogram("map_bytes", "Size of map messages as sent", _BYTES, "kind")
        took = self._histogram("map_seconds", "Time to make a map message", _SECONDS, "kind")
        self._sizes = {kind: size.labels(kind) for kind in Kind}
        self._times = {kind: took.labels(kind) for kind in Kind}
        self._reached = self._histogram(
            "policy_delivered_seconds", "From a policy in force to a client that holds it", _SECONDS
        )
        self._writes = self._histogram("commit_writes", "Writes of one commit", _WRITES)
        self._commits = self._histogram("commit_seconds", "Time of one commit", _SECONDS)
        self._failed = Counter(
            "mergescale_commit_failures", "Commits that did not happen", registry=self.registry
        )
        self._lag = self._histogram("loop_lag_seconds", "How late the event loop is", _SECONDS)

    def made(self, kind: Kind, size_bytes: int, seconds: float) -> None:
        """Note a map message and how long it took to make."""
        self._sizes[kind].observe(size_bytes)
        self._times[kind].observe(seconds)

    def reached(self, seconds: float) -> None:
        """Note that a client holds a policy that concerns it."""
        self._reached.observe(seconds)

    def committed(self, writes: int, seconds: float) -> None:
        """Note a commit."""
        self._writes.observe(writes)
        self._commits.observe(seconds)

    def not_committed(self) -> None:
        """Note a commit that did not happen."""
        self._failed.inc()

    async def probe(self) -> None:
        """Measure how late the loop is, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + PROBE_S
            await asyncio.sleep(PROBE_S)
            self._lag.observe(max(0.0, loop.time() - due))

    def _histogram(
        self, name: str, help_: str, buckets: Sequence[float], *labels: str
    ) -> Histogram:
        full = f"mergescale_{name}"
        return Histogram(full, help_, labels, buckets=buckets, registry=self.registry)


class MeteredJournal:
    """A journal whose commits are measured; everything else passes through."""

    def __init__(self, journal: Journal, metrics: Metrics) -> None:
        self._metrics = metrics
        self._commit = journal.commit
        self.load = journal.load
        self.since = journal.since
        self.heads = journal.heads

    async def commit(
        self,
        tailnet: TailnetName,
        base: Revision,
        writes: Sequence[Write],
        now: datetime,
        fences: Collection[Fence] = (),
    ) -> Revision:
        """Commit; see `state.ports.Journal`."""
        start = time.perf_counter()
        try:
            revision = await self._commit(tailnet, base, writes, now, fences)
        except Exception:
            self._metrics.not_committed()
            raise
        self._metrics.committed(len(writes), time.perf_counter() - start)
        return revision


@dataclass(frozen=True, slots=True, eq=False)
class Gauges(Collector):
    """Reads what the parts of the server count for themselves.

    Attributes:
        connections: open connections of the edge.
        pending: control handshakes that wait for their proof.
    """

    parts: Sequence[Parts]
    clock: Clock
    relay: DerpService | None
    stun: StunServer | None
    connections: Callable[[], int]
    pending: Callable[[], int]

    def collect(self) -> Iterable[Metric]:
        """Yield one family after another."""
        yield _gauge("connections", "Open connections of every kind", self.connections())
        yield _gauge("control_pending", "Handshakes without a proof yet", self.pending())
        yield from self._tailnets()
        yield from self._repositories()
        if self.relay is not None:
            yield from _relay(self.relay)
        if self.stun is not None:
            found = self.stun.counters
            outcomes = {
                "answered": found.answered,
                "ignored": found.ignored,
                "failed": found.failed,
            }
            yield _counter("stun_requests", "STUN datagrams", outcomes, "outcome")

    def _tailnets(self) -> Iterable[Metric]:
        connected = GaugeMetricFamily(
            "mergescale_clients_connected", "Map streams of this process", labels=["tailnet"]
        )
        nodes = GaugeMetricFamily("mergescale_nodes", "Nodes", labels=["tailnet"])
        revision = GaugeMetricFamily(
            "mergescale_revision", "Revision of the newest snapshot", labels=["tailnet"]
        )
        undelivered = GaugeMetricFamily(
            "mergescale_policy_undelivered_clients",
            "Map streams of this process without a map of what is in force",
            labels=["tailnet"],
        )
        for part in self.parts:
            name = str(part.engine.snapshot.tailnet)
            connected.add_metric([name], len(part.hub))
            nodes.add_metric([name], len(part.engine.snapshot.nodes))
            revision.add_metric([name], part.engine.snapshot.revision)
            undelivered.add_metric([name], part.delivery.undelivered)
        yield from (connected, nodes, revision, undelivered)

    def _repositories(self) -> Iterable[Metric]:
        lag = GaugeMetricFamily(
            "mergescale_git_lag_seconds",
            "Age of the newest commit seen, while it is not in force",
            labels=["tailnet"],
        )
        age = GaugeMetricFamily(
            "mergescale_git_last_success_age_seconds",
            "Since the repository was reached and its newest commit in force",
            labels=["tailnet"],
        )
        failures = GaugeMetricFamily(
            "mergescale_git_failures", "Looks that failed one after another", labels=["tailnet"]
        )
        now = self.clock.now()
        for part in self.parts:
            if part.watcher is None:
                continue
            name, status = str(part.engine.snapshot.tailnet), part.watcher.status
            lag.add_metric([name], _lag_s(status, now))
            failures.add_metric([name], status.attempts)
            if status.last_success is not None:
                age.add_metric([name], (now - status.last_success).total_seconds())
        yield from (lag, age, failures)


def _lag_s(status: Status, now: datetime) -> float:
    target = status.target
    if target is None or (status.current is not None and target.commit == status.current.commit):
        return 0.0
    return max(0.0, (now - target.committed).total_seconds())


def _relay(relay: DerpService) -> Iterable[Metric]:
    counters, doors = relay.counters, relay.doors
    dropped = {"full": counters.dropped_full, "unknown": counters.dropped_unknown}
    came = {"admitted": doors.admitted, "refused": doors.refused}
    yield _gauge("derp_connected", "Clients of the relay", relay.connected)
    yield _gauge("derp_pending", "Relay clients not admitted yet", doors.pending)
    yield _counter("derp_clients", "Clients that came to the relay", came, "outcome")
    yield _counter("derp_packets", "Packets passed on", {"": counters.packets})
    yield _counter("derp_packet_bytes", "Bytes of those packets", {"": counters.packet_bytes})
    yield _counter("derp_dropped", "Packets dropped", dropped, "reason")


def _gauge(name: str, help_: str, value: float) -> Metric:
    return GaugeMetricFamily(f"mergescale_{name}", help_, value=value)


def _counter(name: str, help_: str, values: Mapping[str, int], label: str = "") -> Metric:
    family = CounterMetricFamily(f"mergescale_{name}", help_, labels=[label] if label else [])
    for value, count in values.items():
        family.add_metric([value] if label else [], count)
    return family


def metrics_handler(registry: CollectorRegistry, path: str = "/metrics") -> HTTPRouteHandler:
    """Return what answers a scrape. Whoever mounts it decides who gets here."""

    @get(path, include_in_schema=False, sync_to_thread=False)
    def read_metrics() -> Response[bytes]:
        """Tell everything that is measured."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return read_metrics


def metrics_app(registry: CollectorRegistry) -> Litestar:
    """Return the application of the listener for metrics: that one address and nothing else."""
    return Litestar([metrics_handler(registry)], openapi_config=None, logging_config=None)
