"""The outer application on engines in memory, and callers of every kind.

    async with served(world("alice@example.com: laptop")) as site:
        answer = await site.operator.get("/api/v2/tailnet/-/devices")

Nothing opens a socket: requests go straight into the application, as the edge would hand them over.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from litestar import Litestar

from mergescale.api.callers import Backend, Keeps, Repository, Steers
from mergescale.api.handlers import api_handlers
from mergescale.api.health import Check
from mergescale.api.outside import Channels, Webhooks
from mergescale.domain.snapshot import Snapshot
from mergescale.gitops.direct import Direct
from mergescale.gitops.planning import Planner
from mergescale.identity.secrets import MINT_BYTES, Kind, mint
from mergescale.kernel.ids import ApiKeyId, TailnetName
from mergescale.plan.gates import Limits
from mergescale.server.desk import Desk
from mergescale.server.http import Parts, application
from mergescale.state import apikeys
from mergescale.state.engine import Engine
from mergescale.state.tailnets import Tailnets
from mergescale.state.throttle import Throttle
from mergescale.web.handlers import web_handlers
from support.clock import FakeClock, FakeEntropy
from support.failures import MemoryFailures
from support.journal import MemoryFeed, MemoryJournal

URL = "https://control.example.com"
#: What access tokens are made under.
TOKEN_KEY = bytes(range(32))


class MemoryRepository:
    """The twin of a reconciler: every sync is good and counts."""

    def __init__(self, steering: Steers | None = None, credential: Keeps | None = None) -> None:
        self.syncs = 0
        self._steering = steering
        self._credential = credential

    @property
    def steering(self) -> Steers:
        assert self._steering is not None
        return self._steering

    @property
    def credential(self) -> Keeps:
        assert self._credential is not None
        return self._credential

    def status(self) -> Mapping[str, Any]:
        return {"branch": "main", "attempts": self.syncs}

    async def sync(self, *, retry: bool = False) -> None:
        self.syncs += 1


@dataclass(frozen=True, slots=True)
class Site:
    """A server and who talks to it.

    Attributes:
        operator: holds a token of the first tailnet.
        local: came by the unix socket.
        anybody: came by TCP and has nothing.
        tokens: tailnet -> the operator's token of it.
    """

    app: Litestar
    tailnets: Tailnets
    journal: MemoryJournal
    clock: FakeClock
    operator: httpx.AsyncClient
    local: httpx.AsyncClient
    anybody: httpx.AsyncClient
    tokens: Mapping[str, str]

    @property
    def snapshot(self) -> Snapshot:
        return self.tailnets.default.snapshot


@asynccontextmanager
async def served(
    *snapshots: Snapshot,
    repositories: Mapping[TailnetName, Repository] | None = None,
    checks: Mapping[str, Check] | None = None,
    regions: Mapping[int, str] | None = None,
    by_api: bool = False,
    throttled: bool = False,
    webhooks: Mapping[TailnetName, Webhooks] | None = None,
    channels: Mapping[TailnetName, Channels] | None = None,
) -> AsyncIterator[Site]:
    """Serve these tailnets; the first is the default one. `by_api`: the API sets their policies."""
    journal, clock = MemoryJournal(), FakeClock()
    engines = {one.tailnet: Engine(one, journal, MemoryFeed(), clock) for one in snapshots}
    tailnets = Tailnets(engines)
    desks = {name: Desk(Direct(one, clock)) for name, one in engines.items() if by_api}
    backend = Backend(
        tailnets,
        clock,
        FakeEntropy("rest"),
        repositories or {},
        regions or {},
        Throttle(MemoryFailures(), clock) if throttled else None,
        desks,
        token_key=TOKEN_KEY,
        planners={name: Planner(one, clock, Limits()) for name, one in engines.items()},
        webhooks=webhooks or {},
        channels=channels or {},
    )
    parts = Parts(
        api=api_handlers(backend, checks or {}),
        web=web_handlers(tailnets, clock, lambda: URL),
    )
    app = application(parts)
    async with asyncio.TaskGroup() as group:
        for engine in engines.values():
            group.create_task(engine.run())
        tokens = {str(name): await issued(engine) for name, engine in engines.items()}
        first = tokens[str(snapshots[0].tailnet)]
        site = Site(
            app,
            tailnets,
            journal,
            clock,
            operator=client(app, headers=bearer(first)),
            local=client(app, local=True),
            anybody=client(app),
            tokens=tokens,
        )
        try:
            yield site
        finally:
            for engine in engines.values():
                engine.stop()


async def issued(engine: Engine, name: str = "operator") -> str:
    """Make an API token of the engine's tailnet; return its text."""
    tailnet = engine.snapshot.tailnet
    minted = mint(Kind.API, FakeEntropy(f"{name} {tailnet}").bytes(MINT_BYTES))
    await engine.apply(apikeys.create(ApiKeyId(minted.id), minted.secret_hash, name))
    return minted.text


def client(
    app: Any, *, local: bool = False, headers: Mapping[str, str] | None = None
) -> httpx.AsyncClient:
    """Return a client of the application, by TCP or by the unix socket."""

    async def as_the_edge(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": {"local": local}}, receive, send)

    transport = httpx.ASGITransport(as_the_edge, raise_app_exceptions=True)
    return httpx.AsyncClient(transport=transport, base_url=URL, headers=headers)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def basic(user: str, password: str = "") -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
