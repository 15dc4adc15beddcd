"""The composition root: every part of one process, made and connected in one place.

Nothing starts here; ``lifecycle`` starts and stops what `wire` returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import structlog
from litestar import Router

from mergescale.api.callers import Backend
from mergescale.api.handlers import api_handlers
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
from mergescale.domain.tailnet import RelayNode, RelayRegion
from mergescale.fanout.bell import LoginBell
from mergescale.fanout.hub import Hub
from mergescale.kernel.errors import Invalid
from mergescale.kernel.ids import TailnetName
from mergescale.kernel.keys import PrivateKey
from mergescale.netmap.encoder import Encoder
from mergescale.policy.diagnostics import Severity
from mergescale.policy.repository import declare
from mergescale.relay import limits as relay_limits
from mergescale.relay.http import relay_handlers
from mergescale.relay.service import DerpService
from mergescale.relay.stun import StunServer
from mergescale.relay.upgrade import PATH as DERP_PATH
from mergescale.relay.upgrade import PROTOCOL as DERP_PROTOCOL
from mergescale.relay.upgrade import Derp
from mergescale.server import descriptors
from mergescale.server.backups import migrate_with_backup
from mergescale.server.certificate import relay_certificate
from mergescale.server.edge import Edge
from mergescale.server.health import Followed, Relaying, health_checks
from mergescale.server.http import Parts as HttpParts
from mergescale.server.http import application, identified, raw, require_local
from mergescale.server.listeners import Listener, TcpListener, UnixListener
from mergescale.server.master_key import unlock
from mergescale.server.metrics import (
    Gauges,
    MeteredJournal,
    Metrics,
    metrics_app,
    metrics_handler,
)
from mergescale.server.settings import Listen, Settings, is_address
from mergescale.server.system import SystemClock, SystemEntropy
from mergescale.server.tailnet import (
    Announcer,
    Feeds,
    Gatekeeper,
    Parts,
    presence_of,
    watcher_of,
)
from mergescale.server.takeover import Claim, Takeover
from mergescale.server.tls import Certificate, certificate_files
from mergescale.state.engine import Engine
from mergescale.state.follower import Follower
from mergescale.state.replica import Replica, Terms
from mergescale.state.tailnets import Tailnets
from mergescale.state.throttle import Throttle
from mergescale.store.database import Database
from mergescale.store.failures import SqlFailures
from mergescale.store.journal import SqlJournal
from mergescale.store.leases import SqlLeases
from mergescale.store.reading import last_moment
from mergescale.store.wakeups import Wakeups
from mergescale.web.handlers import web_handlers
from mergescale.wire.noise import public_key

log = structlog.get_logger()

_KEY_BYTES = 32

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


@dataclass(frozen=True, slots=True)
class _Relay:
    """The embedded relay: the service, how clients find it, and its own listener if it has one."""

    service: DerpService
    region: RelayRegion
    listener: TcpListener | None


@dataclass(frozen=True, slots=True)
class _RelayKeys:
    """What the embedded relay proves itself with: its key, and what opens its certificate's."""

    key: PrivateKey = field(repr=False)
    passphrase: bytes = field(repr=False)


async def wire(settings: Settings, resources: AsyncExitStack) -> Server:
    """Make every part; what must be given back is on `resources`.

    Raises:
        MergescaleError: the configuration or the database cannot be used; says why.
    """
    entropy = SystemEntropy()
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = certificate_files(settings)
    certificate = Certificate(files) if files is not None else None
    database = await _database(settings, resources)
    clock = await _clock(settings, database)

    secrets = await unlock(settings, database, clock, entropy)

    async def secret(name: str) -> PrivateKey:
        return PrivateKey(await secrets.get_or_create(name, lambda: entropy.bytes(_KEY_BYTES)))

    noise = await secret("noise")
    journal = SqlJournal(database, _declared, clock, _unreadable)
    feeds = {TailnetName(name): Feeds() for name in settings.repositories}
    metrics = Metrics()
    metered = MeteredJournal(journal, metrics)
    engines = {name: await Engine.open(name, metered, feed, clock) for name, feed in feeds.items()}
    tailnets = Tailnets(engines)
    relay_keys = _RelayKeys(await secret("derp"), secrets.key.passphrase("relay.pem"))
    sockets = descriptors.room()
    relay = _relay(settings, tailnets, relay_keys, clock, descriptors.relay_limits(sockets))
    bell = LoginBell()
    terms = Terms(settings.lease_s, alone=not database.shared)
    replica = await Replica.join(SqlLeases(database, clock), clock, entropy, terms)
    around = _Around(settings, relay, bell, replica, metrics, clock)
    parts = [_tailnet(engine, feeds[name], around) for name, engine in engines.items()]
    hubs = {part.engine.snapshot.tailnet: part.hub for part in parts}
    c2n = C2n(entropy)
    throttle = Throttle(SqlFailures(database), clock)
    machines = machine_app(
        Registrar(tailnets, bell, entropy, settings.url, throttle=throttle),
        Poller(tailnets, hubs, clock),
        SshGate(tailnets, bell, entropy, settings.url, throttle=throttle),
        c2n,
        throttle,
    )
    limits = descriptors.control_limits(settings, sockets)
    door = Door(noise, entropy, Service(Paced(machines), limits, tailnets.knows_machine))
    backend = Backend(
        tailnets,
        clock,
        entropy,
        repositories={
            part.engine.snapshot.tailnet: Followed(part.watcher) for part in parts if part.watcher
        },
        regions={relay.region.id: relay.region.name} if relay is not None else {},
        throttle=throttle,
    )
    stun = _stun(settings) if relay is not None else None
    listeners = _listeners(settings, certificate, relay)
    follower = Follower(tailnets, journal) if database.shared else None
    relaying = None
    if relay is not None and stun is not None:
        door_of_relay = relay.listener or listeners[0]
        relaying = Relaying(relay.service, stun, lambda: edge.listens(door_of_relay))
    handlers = HttpParts(
        api=api_handlers(backend, health_checks(database, clock, parts, relaying, follower)),
        web=web_handlers(tailnets, clock, lambda: settings.url),
        control=[
            *public_handlers(tailnets, public_key(noise), lambda: _hosts(settings, tailnets)),
            raw(TS2021_PATH, WebSocketDoor(door)),
            Router("/", route_handlers=[metrics_handler(metrics.registry)], guards=[require_local]),
        ],
        relay=relay_handlers(relay.service) if relay is not None else [],
    )
    edge = Edge(
        identified(application(handlers)),
        listeners,
        _takeovers(door, relay),
        trusted_proxies=settings.trusted_proxies,
        sockets=sockets,
    )
    service = relay.service if relay is not None else None
    metrics.registry.register(
        Gauges(
            parts, clock, service, stun, lambda: len(edge.state.connections), lambda: door.pending
        )
    )
    endless = (*_following(database, follower, tailnets), metrics.probe)
    if certificate is not None:
        endless = (*endless, certificate.watch)
    return Server(
        settings,
        clock,
        entropy,
        tailnets,
        tuple(parts),
        edge,
        stun,
        service,
        c2n,
        replica,
        endless,
        _metrics_edge(settings, metrics),
    )


async def _database(settings: Settings, resources: AsyncExitStack) -> Database:
    await asyncio.to_thread(migrate_with_backup, settings, SystemClock())
    database = Database.open(settings.database, settings.database_answer_s)
    resources.push_async_callback(database.dispose)
    return database


async def _clock(settings: Settings, database: Database) -> SystemClock:
    """Return the time, which goes on from what is stored unless the operator knows better."""
    stored = None
    if not settings.trust_clock:
        async with database.reading() as connection:
            stored = await last_moment(connection)
    return SystemClock(stored, settings.clock_confirm_s)


@dataclass(frozen=True, slots=True)
class _Around:
    """What the parts of every tailnet share."""

    settings: Settings
    relay: _Relay | None
    bell: LoginBell
    replica: Replica
    metrics: Metrics
    clock: SystemClock


def _tailnet(engine: Engine, feed: Feeds, around: _Around) -> Parts:
    clock, entropy = around.clock, SystemEntropy()
    settings, relay, replica = around.settings, around.relay, around.replica
    attendance = presence_of(engine, replica)
    encoder = Encoder(relay.region if relay is not None else None, settings.url)
    hub = Hub(engine.snapshot, encoder, attendance, asyncio.get_running_loop(), entropy)
    hub.meter = around.metrics
    feed.add(Announcer())
    feed.add(hub)
    feed.add(around.bell)
    if relay is not None:
        feed.add(Gatekeeper(relay.service.recheck))
    repository = settings.repositories[engine.snapshot.tailnet]
    watcher = watcher_of(engine, repository, settings, clock, replica)
    if watcher is not None:
        feed.add(watcher)
    return Parts(engine, hub, attendance, watcher, clock, replica)


def _following(
    database: Database, follower: Follower | None, tailnets: Tailnets
) -> tuple[Endless, ...]:
    """Return what keeps up with other replicas; SQLite has none."""
    if follower is None:
        return ()
    tailnets.catch_up = follower.look
    return follower.run, Wakeups(database, follower.heard, follower.wake).run


def _relay(
    settings: Settings,
    tailnets: Tailnets,
    keys: _RelayKeys,
    clock: SystemClock,
    limits: relay_limits.Limits,
) -> _Relay | None:
    """Make the embedded relay, None if it is switched off."""
    if not settings.relay:
        return None
    service = DerpService(keys.key, tailnets.knows_node_key, SystemEntropy(), limits)
    host = settings.relay_host or settings.url_host
    listen = Listen.parse(settings.relay_listen)
    port, pin, listener = settings.url_port, "", None
    if not settings.relay_shares_main_port:
        certificate = relay_certificate(
            settings.state_dir / "relay.pem",
            host=host,
            relay_key=service.public_key,
            passphrase=keys.passphrase,
            now=clock.now(),
        )
        port, pin = listen.port, certificate.pin
        listener = TcpListener(listen.host, listen.port, certificate.context(), "relay_listen")
    address = is_address(host)
    node = RelayNode(
        name=f"{settings.relay_region}a",
        host_name=host,
        cert_name=pin,
        ipv4=host if address and ":" not in host else "none" if address else "",
        ipv6=host if address and ":" in host else "none" if address else "",
        stun_port=Listen.parse(settings.stun_listen).port,
        derp_port=port,
    )
    region = RelayRegion(settings.relay_region, "mergescale", "Mergescale", (node,))
    return _Relay(service, region, listener)


def _listeners(
    settings: Settings, certificate: Certificate | None, relay: _Relay | None
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


def _takeovers(door: Door, relay: _Relay | None) -> Mapping[Claim, Takeover]:
    takeovers: dict[Claim, Takeover] = {Claim(TS2021_PATH, TS2021_PROTOCOL, "POST"): Ts2021(door)}
    if relay is not None:
        takeovers[Claim(DERP_PATH, DERP_PROTOCOL)] = Derp(relay.service)
    return takeovers


def _stun(settings: Settings) -> StunServer:
    listen = Listen.parse(settings.stun_listen)
    return StunServer(listen.host, listen.port)


def _hosts(settings: Settings, tailnets: Tailnets) -> Collection[str]:
    """Return the names a client may have to resolve: ours and those of the declared relays."""
    hosts = {settings.url_host, settings.relay_host}
    for engine in tailnets:
        for region in engine.snapshot.relays.regions:
            hosts.update(node.host_name for node in region.nodes)
    return {host for host in hosts if host and not is_address(host)}


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
