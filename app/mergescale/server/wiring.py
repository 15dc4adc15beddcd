"""The composition root: every part of one process, made and connected in one place.

Nothing starts here; ``lifecycle`` starts and stops what `wire` returns.

LIMIT(length): whoever asks what is connected to what reads one file from top to bottom.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial

import structlog
from litestar import Router

from mergescale.api.callers import Backend
from mergescale.api.handlers import api_handlers
from mergescale.api.health import Check
from mergescale.control.app import Paced, machine_app
from mergescale.control.c2n import C2n
from mergescale.control.channel import Service
from mergescale.control.poll import Poller
from mergescale.control.public import public_handlers
from mergescale.control.register import Registrar
from mergescale.control.sshcheck import SshGate
from mergescale.control.upgrade import PATH as TS2021_PATH
from mergescale.control.upgrade import PROTOCOL as TS2021_PROTOCOL
from mergescale.control.upgrade import Door, Ts2021
from mergescale.control.websocket import WebSocketDoor
from mergescale.domain.declaration import Declaration
from mergescale.fanout.hub import Hub
from mergescale.gitops.delivery import Delivery
from mergescale.gitops.operators.overriding import Overrides
from mergescale.gitops.operators.steering import Steering
from mergescale.gitops.outbox import Outbox
from mergescale.kernel.errors import Invalid
from mergescale.kernel.ids import TailnetName
from mergescale.kernel.keys import MachineKey
from mergescale.netmap.encoder import Encoder
from mergescale.policy.diagnostics import Severity
from mergescale.policy.repository import declare
from mergescale.relay.http import relay_handlers
from mergescale.relay.service import DerpService
from mergescale.relay.stun import StunServer
from mergescale.relay.upgrade import PATH as DERP_PATH
from mergescale.relay.upgrade import PROTOCOL as DERP_PROTOCOL
from mergescale.relay.upgrade import Derp
from mergescale.server import descriptors
from mergescale.server.desk import desks, planners
from mergescale.server.edge import Edge
from mergescale.server.embedded_relay import Relay, RelayKeys, embedded_relay
from mergescale.server.ground import Ground, ground
from mergescale.server.health import Followed, Relaying, health_checks
from mergescale.server.hooks import Webhooks, webhooks_of
from mergescale.server.http import Parts as HttpParts
from mergescale.server.http import application, identified, raw, require_local
from mergescale.server.listeners import Listener, TcpListener, UnixListener
from mergescale.server.metrics import (
    Gauges,
    MeteredJournal,
    Metrics,
    metrics_app,
    metrics_handler,
)
from mergescale.server.notices import channels_of
from mergescale.server.reporting import Reporting, reportings_of
from mergescale.server.settings import Listen, Settings, is_address
from mergescale.server.system import SystemClock, SystemEntropy
from mergescale.server.tailnet import (
    Announcer,
    Feeds,
    Gatekeeper,
    Parts,
    keeper_of,
    presence_of,
    proving_of,
    watcher_of,
)
from mergescale.server.takeover import Claim, Takeover
from mergescale.server.tls import Certificate
from mergescale.state.engine import Engine
from mergescale.state.follower import Follower
from mergescale.state.ports import Past
from mergescale.state.replica import Replica, Terms
from mergescale.state.tailnets import Tailnets
from mergescale.state.throttle import Throttle
from mergescale.store.failures import SqlFailures
from mergescale.store.journal import SqlJournal
from mergescale.store.leases import SqlLeases
from mergescale.store.outbox import SqlLetters
from mergescale.store.wakeups import Wakeups
from mergescale.web.handlers import web_handlers
from mergescale.wire.noise import public_key

log = structlog.get_logger()

#: Work that goes on until it is cancelled.
Endless = Callable[[], Coroutine[None, None, None]]


@dataclass(frozen=True, slots=True)
class Server:
    """Every part of the process.

    Attributes:
        parts: each tailnet's, the default first.
        stun: None without a relay.
        relay: everybody on the embedded relay, and what it forwarded; None without one.
        c2n: asks connected nodes.
        replica: this process beside others on the same database.
        endless: what runs for ever beside the tailnets: it keeps up with what other replicas
            commit and with the certificate's files, and measures the loop.
        metrics: the listener for metrics, None without one.
    """

    settings: Settings
    clock: SystemClock
    entropy: SystemEntropy
    tailnets: Tailnets
    parts: tuple[Parts, ...]
    edge: Edge
    stun: StunServer | None
    relay: DerpService | None
    c2n: C2n
    replica: Replica
    endless: tuple[Endless, ...]
    metrics: Edge | None


async def wire(settings: Settings, resources: AsyncExitStack) -> Server:
    """Make every part; what must be given back is on `resources`.

    Raises:
        MergescaleError: the configuration or the database cannot be used; says why.
    """
    base = await ground(settings, resources)
    core = await _core(base)
    control = await _control(base, core)
    edge = _edge(base, core, control)
    relay = core.relay
    base.metrics.registry.register(
        Gauges(
            core.parts,
            base.clock,
            relay.service if relay is not None else None,
            relay.stun if relay is not None else None,
            lambda: len(edge.state.connections),
            lambda: control.door.pending,
        )
    )
    return Server(
        settings=settings,
        clock=base.clock,
        entropy=base.entropy,
        tailnets=core.tailnets,
        parts=core.parts,
        edge=edge,
        stun=relay.stun if relay is not None else None,
        relay=relay.service if relay is not None else None,
        c2n=control.c2n,
        replica=core.replica,
        endless=_endless(base, core),
        metrics=_metrics_edge(settings, base.metrics),
    )


# ---------------------------------------------------------------------- the tailnets at work


@dataclass(frozen=True, slots=True)
class _Core:
    """Every tailnet at work, and what they share.

    Attributes:
        parts: each tailnet's, in the order of `tailnets`.
        relay: None if it is switched off.
        follower: keeps up with other replicas; None where there can be none.
        past: what was in force before.
        webhooks: of the tailnets that follow a repository.
        reportings: what tells the forges of those that have one.
    """

    tailnets: Tailnets
    parts: tuple[Parts, ...]
    relay: Relay | None
    replica: Replica
    follower: Follower | None
    past: Past
    webhooks: Webhooks
    reportings: Mapping[TailnetName, Reporting]


async def _core(base: Ground) -> _Core:
    settings, clock, database = base.settings, base.clock, base.database
    feeds = {TailnetName(name): Feeds() for name in settings.repositories}
    journal = SqlJournal(database, _declared, clock, _unreadable)
    metered = MeteredJournal(journal, base.metrics)
    tailnets = Tailnets(
        {name: await Engine.open(name, metered, feed, clock) for name, feed in feeds.items()}
    )
    keys = RelayKeys(await base.key("derp"), base.secrets.key.passphrase("relay.pem"))
    limits = descriptors.relay_limits(base.sockets)
    relay = embedded_relay(settings, tailnets, keys, clock, limits)
    terms = Terms(settings.lease_s, alone=not database.shared)
    replica = await Replica.join(SqlLeases(database, clock), clock, base.entropy, terms)
    parts = tuple(
        _parts(base, relay, replica, engine, feeds[name], journal)
        for name, engine in tailnets.engines.items()
    )
    follower = Follower(tailnets, journal) if database.shared else None
    webhooks = await webhooks_of(base, parts)
    reportings = reportings_of(base, parts)
    return _Core(tailnets, parts, relay, replica, follower, journal, webhooks, reportings)


def _parts(
    base: Ground,
    relay: Relay | None,
    replica: Replica,
    engine: Engine,
    feed: Feeds,
    past: Past,
) -> Parts:
    """Make one tailnet's parts; each of them hears from its engine through `feed`."""
    settings, clock = base.settings, base.clock
    attendance = presence_of(engine, replica)
    encoder = Encoder(relay.region if relay is not None else None, settings.url)
    loop = asyncio.get_running_loop()
    hub = Hub(engine.snapshot, encoder, attendance, loop, base.entropy)
    hub.meter = base.metrics
    feed.add(Announcer())
    feed.add(hub)
    feed.add(base.bell)
    if relay is not None:
        feed.add(Gatekeeper(relay.service.recheck))
    repository = settings.repositories[engine.snapshot.tailnet]
    told = not replica.terms.alone
    delivery = Delivery(engine, hub, lambda: replica.seat, clock, told=told)
    keeper = keeper_of(engine, repository, base.vault(engine.snapshot.tailnet), clock)
    watcher = watcher_of(engine, repository, settings, clock, replica, delivery, keeper)
    proving = proving_of(engine, settings, watcher)
    if watcher is not None:
        feed.add(watcher)
    letters = SqlLetters(base.database)
    outbox = Outbox(engine.snapshot.tailnet, letters, clock, lambda: replica.duties)
    overrides = Overrides(engine, past, clock, proving)
    return Parts(
        engine,
        hub,
        attendance,
        watcher,
        clock,
        replica,
        outbox,
        delivery,
        overrides,
        proving,
        keeper,
    )


def _endless(base: Ground, core: _Core) -> tuple[Endless, ...]:
    """Return what runs for ever beside the tailnets; with SQLite nobody else is followed."""
    endless: list[Endless] = [base.metrics.probe]
    endless += [webhook.run for webhook in core.webhooks.by_tailnet.values()]
    endless += [partial(core.replica.on_duty, one.run) for one in core.reportings.values()]
    if core.follower is not None:
        core.tailnets.catch_up = core.follower.look
        wakeups = Wakeups(base.database, core.follower.heard, core.follower.wake)
        endless += [core.follower.run, wakeups.run]
    if base.certificate is not None:
        endless.append(base.certificate.watch)
    return tuple(endless)


# ---------------------------------------------------------------------- what clients speak to


@dataclass(frozen=True, slots=True)
class _Control:
    """What is behind ``/ts2021``.

    Attributes:
        key: the server's public Noise key.
        throttle: bounds guessing, here and in the API.
        token_key: what access tokens of the API are made under.
    """

    door: Door
    key: MachineKey
    c2n: C2n
    throttle: Throttle
    token_key: bytes = field(repr=False)


async def _control(base: Ground, core: _Core) -> _Control:
    tailnets, clock, entropy, url = core.tailnets, base.clock, base.entropy, base.settings.url
    noise = await base.key("noise")
    throttle = Throttle(SqlFailures(base.database), clock)
    hubs = {part.engine.snapshot.tailnet: part.hub for part in core.parts}
    c2n = C2n(entropy)
    machines = machine_app(
        Registrar(tailnets, base.bell, entropy, url, throttle=throttle),
        Poller(tailnets, hubs, clock),
        SshGate(tailnets, base.bell, entropy, url, throttle=throttle),
        c2n,
        throttle,
    )
    limits = descriptors.control_limits(base.settings, base.sockets)
    door = Door(noise, entropy, Service(Paced(machines), limits, tailnets.knows_machine))
    tokens = await base.key("access-tokens")
    return _Control(door, public_key(noise), c2n, throttle, tokens.raw)


def _edge(base: Ground, core: _Core, control: _Control) -> Edge:
    settings, relay = base.settings, core.relay
    listeners = _listeners(settings, base.certificate, relay)
    relaying = None
    if relay is not None:
        at = relay.listener or listeners[0]
        relaying = Relaying(relay.service, relay.stun, lambda: edge.listens(at))
    checks = health_checks(base.database, base.clock, core.parts, relaying, core.follower)
    edge = Edge(
        identified(application(_pages(base, core, control, checks))),
        listeners,
        _takeovers(control.door, relay),
        trusted_proxies=settings.trusted_proxies,
        sockets=base.sockets,
    )
    return edge


def _pages(base: Ground, core: _Core, control: _Control, checks: Mapping[str, Check]) -> HttpParts:
    """Return all that answers plain HTTP."""
    settings, tailnets, relay = base.settings, core.tailnets, core.relay
    webhooks = core.webhooks.by_tailnet
    backend = Backend(
        tailnets,
        base.clock,
        base.entropy,
        repositories={
            part.engine.snapshot.tailnet: Followed(
                part.watcher,
                Steering(part.engine, core.past, part.watcher, part.clock),
                webhooks[part.engine.snapshot.tailnet],
                part.keeper,
                part.proving,
            )
            for part in core.parts
            if part.watcher and part.keeper
        },
        regions={relay.region.id: relay.region.name} if relay is not None else {},
        throttle=control.throttle,
        desks=desks(core.parts) if settings.policy_by_api else {},
        token_key=control.token_key,
        planners=planners(core.parts),
        webhooks=webhooks,
        channels=channels_of(base, core.parts, core.past),
        forges=core.reportings,
    )
    metrics = metrics_handler(base.metrics.registry)
    return HttpParts(
        api=api_handlers(backend, checks),
        web=web_handlers(tailnets, base.clock, lambda: settings.url),
        control=[
            *public_handlers(tailnets, control.key, lambda: _hosts(settings, tailnets)),
            raw(TS2021_PATH, WebSocketDoor(control.door)),
            *core.webhooks.handlers(control.throttle),
            Router("/", route_handlers=[metrics], guards=[require_local]),
        ],
        relay=relay_handlers(relay.service) if relay is not None else [],
    )


def _listeners(
    settings: Settings, certificate: Certificate | None, relay: Relay | None
) -> list[Listener]:
    main = Listen.parse(settings.listen)
    tls = certificate.context if certificate is not None else None
    listeners: list[Listener] = [
        TcpListener(main.host, main.port, tls, "listen"),
        UnixListener(settings.unix_socket, setting="socket"),
    ]
    if relay is not None and relay.listener is not None:
        listeners.append(relay.listener)
    return listeners


def _metrics_edge(settings: Settings, metrics: Metrics) -> Edge | None:
    if not settings.metrics_listen:
        return None
    at = Listen.parse(settings.metrics_listen)
    listener = TcpListener(at.host, at.port, setting="metrics_listen")
    return Edge(metrics_app(metrics.registry), [listener], {})


def _takeovers(door: Door, relay: Relay | None) -> Mapping[Claim, Takeover]:
    takeovers: dict[Claim, Takeover] = {Claim(TS2021_PATH, TS2021_PROTOCOL, "POST"): Ts2021(door)}
    if relay is not None:
        takeovers[Claim(DERP_PATH, DERP_PROTOCOL)] = Derp(relay.service)
    return takeovers


def _hosts(settings: Settings, tailnets: Tailnets) -> Collection[str]:
    """Return the names a client may have to resolve: ours and those of the declared relays."""
    hosts = {settings.url_host, settings.relay_host}
    for engine in tailnets:
        for region in engine.snapshot.relays.regions:
            hosts.update(node.host_name for node in region.nodes)
    return {host for host in hosts if host and not is_address(host)}


# ---------------------------------------------------------------------- what the journal asks for


def _declared(files: Mapping[str, str]) -> Declaration:
    """Read a stored commit again; its own tests passed when it came into force.

    Raises:
        Invalid: this version does not accept what an earlier one did; says the first reason.
    """
    declaration, diagnostics = declare(files, tested=False)
    if declaration is None:
        first = next(d for d in diagnostics if d.severity is Severity.ERROR)
        raise Invalid(f"{first.span.file}:{first.span.start_line}: {first.message}")
    return declaration


def _unreadable(tailnet: TailnetName, error: Exception) -> None:
    """Tell operators of something stored that could not be read; the tailnet runs without it."""
    log.error("store.unreadable", tailnet=tailnet, why=str(error))
