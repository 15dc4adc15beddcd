"""Who calls, and the one tailnet that this lets them into.

A token belongs to a tailnet. The unix socket is for whoever may open it, an operator of the whole
server; such a caller names the tailnet in the path or as ``?tailnet=``, or means the default one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import msgspec
from litestar.connection import ASGIConnection, Request
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.params import SkipValidation
from litestar.types import Guard

from mergescale.api.outside import Channels, ForgeDesk, Webhooks
from mergescale.api.problems import lowered
from mergescale.domain.scopes import Scope
from mergescale.domain.snapshot import Snapshot
from mergescale.identity.principals import (
    LOCAL_OPERATOR,
    Principal,
    authenticate,
    credential,
    key_of,
)
from mergescale.kernel.clock import Clock, Entropy
from mergescale.kernel.errors import Invalid, NotFound, Unauthorized
from mergescale.kernel.ids import TailnetName
from mergescale.plan.rendering import Review
from mergescale.policy.diagnostics import Diagnostic
from mergescale.state import apikeys
from mergescale.state.engine import Engine, EngineStopped
from mergescale.state.ports import StoreUnavailable
from mergescale.state.tailnets import Tailnets
from mergescale.state.throttle import API_TOKEN, Throttle, place

#: In the path of Tailscale's API: the tailnet of whoever asks.
OWN_TAILNET: Final = "-"
_NEEDS: Final = "scope"
#: Methods that change nothing.
_LOOKS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class WentBack(Protocol):
    """What a rollback did."""

    def as_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        ...


class Approves(Protocol):
    """Lets commits pass gates and freeze windows; `gitops.operators.approving.Approving`."""

    async def approve(
        self, commit: str, *, reason: str, by: str, newest: str, plan: str = ""
    ) -> str:
        """Let one commit pass; return its full id."""
        ...


class Overrides(Protocol):
    """Has policies in force in place of the repository's; `gitops.operators.overriding.Overrides`."""

    async def put(self, text: str, *, reason: str, by: str, lasting: timedelta) -> object:
        """Put one in force, for a while."""
        ...

    async def end(self, *, by: str) -> None:
        """Put back what the repository said before."""
        ...


class Steers(Protocol):
    """Does what operators want of following a repository; `gitops.operators.steering.Steering`."""

    @property
    def approving(self) -> Approves:
        """What lets commits pass."""
        ...

    @property
    def overrides(self) -> Overrides:
        """What is in force in place of the repository's policy."""
        ...

    async def history(self, limit: int) -> list[dict[str, Any]]:
        """Return what was in force, newest first."""
        ...

    async def suspend(self, *, reason: str, by: str, lasting: timedelta | None = None) -> None:
        """Let nothing come into force by itself."""
        ...

    async def pin(self, commit: str, *, reason: str, by: str) -> str:
        """Put a commit in force and keep it there; return its full id."""
        ...

    async def resume(self, *, by: str) -> None:
        """Follow the branch again."""
        ...

    async def accept(self, commit: str, *, by: str, newest: str) -> str:
        """Let one commit come into force all the same; return its full id."""
        ...

    async def rollback(self, commit: str, *, reason: str, by: str) -> WentBack:
        """Put what was in force back in force."""
        ...

    async def diff(self, base: str, head: str) -> Any:
        """Return the plan between two that were in force."""
        ...

    async def newest_with(self, commit: str) -> str:
        """Return the id of the branch's newest commit, which brings this one."""
        ...

    async def next_plan(self) -> Any:
        """Return the plan of what comes next, None for nothing."""
        ...


class Keeps(Protocol):
    """Keeps what opens the repository, and gives it to nobody; `gitops.keeper.Keeper`."""

    async def about(self) -> dict[str, Any]:
        """Return what may be told of it."""
        ...

    async def put(self, words: Mapping[str, Any], *, by: str) -> dict[str, Any]:
        """Keep this one; return what may be told of it."""
        ...

    async def generate(self, known_hosts: str, *, by: str) -> dict[str, Any]:
        """Make a deploy key and keep it; return what may be told of it."""
        ...

    async def drop(self, *, by: str) -> bool:
        """Forget it; say whether there was one."""
        ...


class Repository(Protocol):
    """The watched repository of one tailnet, as far as operators ask about it."""

    @property
    def steering(self) -> Steers:
        """What operators want of it."""
        ...

    @property
    def credential(self) -> Keeps:
        """What opens it."""
        ...

    def status(self) -> Mapping[str, Any]:
        """Return where following it stands, ready for JSON."""
        ...

    async def sync(self, *, retry: bool = False) -> None:
        """Look at it now; return once that is done, whether it went well or not.

        Args:
            retry: try its newest commit even if it is in quarantine.
        """
        ...


class Plans(Protocol):
    """Plans proposed texts of one tailnet; `gitops.planning.Planner`."""

    async def review(self, files: Mapping[str, str], base: Mapping[str, str] | None) -> Review:
        """Compare texts with the base, or with what is in force.

        Raises:
            PlanRefused: one of them is no policy.
            Conflict: there is nothing to compare with, or too many ask.
        """
        ...


class PolicyRefused(Invalid):
    """Raised when a policy that was sent cannot come into force; nothing changed.

    Attributes:
        diagnostics: why, with places; what failed its own tests has codes of their own.
    """

    code = "invalid.policy"

    def __init__(self, message: str, diagnostics: Sequence[Diagnostic] = ()) -> None:
        super().__init__(message)
        self.diagnostics = tuple(diagnostics)


class PolicyDesk(Protocol):
    """Takes the policies of one tailnet over the API."""

    async def put(self, text: str, *, author: str, over: str | None) -> None:
        """Put a policy in force.

        Args:
            text: of the policy file.
            author: who sent it, for the record.
            over: `state.policies.in_force` that it replaces, None for whatever it is.

        Raises:
            PolicyRefused: something is wrong with it.
            PolicyMoved: something else than `over` is in force.
        """
        ...


@dataclass(frozen=True, slots=True)
class Backend:
    """What the handlers work with.

    Attributes:
        repositories: the tailnets that follow one.
        desks: the tailnets whose policy is set over the API; none of them follows a repository.
        regions: the server's own relay regions, id -> name; those a tailnet declares it knows.
        throttle: bounds failed attempts; None for no bound.
        token_key: what access tokens are made under; the same at all replicas.
        webhooks, channels: of the tailnets that follow a repository.
        planners: of all tailnets.
        forges: of those whose repository has one.
    """

    tailnets: Tailnets
    clock: Clock
    entropy: Entropy
    repositories: Mapping[TailnetName, Repository] = field(default_factory=dict)
    regions: Mapping[int, str] = field(default_factory=dict)
    throttle: Throttle | None = None
    desks: Mapping[TailnetName, PolicyDesk] = field(default_factory=dict)
    token_key: bytes = field(repr=False, kw_only=True)
    webhooks: Mapping[TailnetName, Webhooks] = field(default_factory=dict)
    channels: Mapping[TailnetName, Channels] = field(default_factory=dict)
    planners: Mapping[TailnetName, Plans] = field(default_factory=dict)
    forges: Mapping[TailnetName, ForgeDesk] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Authenticated:
    """Somebody who may act, inside one tailnet. Handlers get it as `Caller`."""

    principal: Principal
    engine: Engine
    backend: Backend

    @property
    def snapshot(self) -> Snapshot:
        """The caller's tailnet as it is now."""
        return self.engine.snapshot

    @property
    def repository(self) -> Repository | None:
        """The repository that the caller's tailnet follows."""
        return self.backend.repositories.get(self.snapshot.tailnet)

    @property
    def planner(self) -> Plans:
        """What plans proposed texts for the caller's tailnet."""
        return self.backend.planners[self.snapshot.tailnet]

    @property
    def desk(self) -> PolicyDesk | None:
        """What takes a policy for the caller's tailnet, None where the API does not set it."""
        return self.backend.desks.get(self.snapshot.tailnet)

    def now(self) -> datetime:
        """Return the time."""
        return self.backend.clock.now()

    def draw(self, count: int) -> bytes:
        """Return random bytes."""
        return self.backend.entropy.bytes(count)


class ApiRequest(Request[Authenticated, Any, State]):
    """A request whose body is decoded here, so that whatever bytes it has are the caller's fault."""

    async def json(self) -> Any:
        """Return the body as plain values.

        Raises:
            Invalid: it is not JSON.
        """
        try:
            return msgspec.json.decode(await self.body())
        except msgspec.DecodeError as error:
            raise Invalid(f"the body cannot be read: {lowered(str(error))}") from None
        except UnicodeDecodeError:
            raise Invalid("the body cannot be read: it is not UTF-8") from None
        except RecursionError:
            raise Invalid("the body cannot be read: it is nested too deep") from None


#: What a handler's parameter `caller` is; made by the guard, not read from the request.
Caller = NamedDependency[SkipValidation[Authenticated]]


def guard(backend: Backend) -> Guard:
    """Return the guard of ``/api/v2``.

    INVARIANT(authenticated first): a guard runs before the body is read, so nobody unknown makes
    the server read or parse one.
    """

    async def check(
        connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
    ) -> None:
        engine, principal = await _let_in(backend, connection)
        principal.require(_needed(handler, connection))
        connection.scope["user"] = Authenticated(principal, engine, backend)

    return check


def needs(scope: Scope) -> dict[str, Scope]:
    """Return what makes this scope enough for a handler: its ``opt``."""
    return {_NEEDS: scope}


def _needed(handler: BaseRouteHandler, connection: ASGIConnection[Any, Any, Any, Any]) -> Scope:
    """Return the scope a request needs; what says nothing of scopes is for those who hold all."""
    named = handler.opt.get(_NEEDS)
    if isinstance(named, Scope):
        return named
    looks = isinstance(connection, Request) and connection.method in _LOOKS
    return Scope.ALL_READ if looks else Scope.ALL


def caller_of(request: Request[Any, Any, Any]) -> Authenticated:
    """Provide `Caller`."""
    caller: Authenticated = request.user
    return caller


async def _let_in(
    backend: Backend, connection: ASGIConnection[Any, Any, Any, Any]
) -> tuple[Engine, Principal]:
    named = connection.path_params.get("tailnet", OWN_TAILNET)
    if named == OWN_TAILNET:
        named = connection.query_params.get("tailnet", OWN_TAILNET)
    authorization = connection.headers.get("authorization")
    # INVARIANT(local): set by the edge for its unix socket only. A token that comes along counts
    # all the same: whoever sends one wants to be its tailnet's operator.
    if authorization is None and connection.scope["state"].get("local") is True:
        return backend.tailnets.named(named), LOCAL_OPERATOR
    if authorization is None or backend.throttle is None:
        engine, principal = _by_token(backend, authorization)
    else:
        who = place(connection.client.host if connection.client is not None else "")
        backend.throttle.check(API_TOKEN, who)
        try:
            engine, principal = _by_token(backend, authorization)
        except Unauthorized:
            await backend.throttle.failed(API_TOKEN, who)
            raise
    if named not in {OWN_TAILNET, engine.snapshot.tailnet}:
        raise NotFound("no such tailnet")
    await _note_use(backend, engine, principal)
    return engine, principal


def _by_token(backend: Backend, authorization: str | None) -> tuple[Engine, Principal]:
    tailnets = backend.tailnets
    shown = credential(authorization)
    engine = None if shown is None else tailnets.of_api_key(key_of(shown))
    # Without a tailnet it fails in the same way, at the same place.
    engine = engine or tailnets.default
    now, key = backend.clock.now(), backend.token_key
    return engine, authenticate(engine.snapshot, authorization, now, key)


async def _note_use(backend: Backend, engine: Engine, principal: Principal) -> None:
    key_id = principal.api_key
    if key_id is None:
        return
    if apikeys.use_is_news(engine.snapshot.api_keys[key_id], backend.clock.now()):
        # A server that cannot write can still be read, and its token was good when it was shown.
        with contextlib.suppress(StoreUnavailable, EngineStopped, NotFound):
            await engine.apply(apikeys.used(key_id))
