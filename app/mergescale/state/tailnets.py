"""The tailnets of this process, and which one a caller belongs to.

A node key, a pre-auth key, a login and an API token each exist in one tailnet only; whoever shows
one is let into that tailnet and no other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping

from mergescale.domain.node import Node
from mergescale.kernel.errors import NotFound
from mergescale.kernel.ids import ApiKeyId, AuthKeyId, LoginId, NodeId, TailnetName
from mergescale.kernel.keys import MachineKey, NodeKey
from mergescale.state.engine import Engine


class Tailnets:
    """Every engine of the process by its tailnet's name; the first one is the default.

    Attributes:
        engines: never empty; fixed for the life of the process.
        catch_up: takes in what other replicas wrote so far; None where there are none.
    """

    def __init__(self, engines: Mapping[TailnetName, Engine]) -> None:
        self.engines = dict(engines)
        self.catch_up: Callable[[], Awaitable[None]] | None = None

    def __iter__(self) -> Iterator[Engine]:
        return iter(self.engines.values())

    async def freshen(self) -> None:
        """Take in what other replicas wrote; before something is refused for not being known.

        It may have been made at another replica a moment ago, and a client does not ask twice.

        Raises:
            StoreUnavailable: what they wrote cannot be known now.
        """
        if self.catch_up is not None:
            await self.catch_up()

    @property
    def default(self) -> Engine:
        """The tailnet of those who name none."""
        return next(iter(self.engines.values()))

    def named(self, name: str) -> Engine:
        """Return the tailnet with this name; ``-`` is the default, as in Tailscale's API.

        Raises:
            NotFound: there is no such tailnet here.
        """
        if name == "-":
            return self.default
        engine = self.engines.get(TailnetName(name))
        if engine is None:
            raise NotFound("no such tailnet")
        return engine

    def of_node(self, machine: MachineKey, key: NodeKey) -> tuple[Engine, Node] | None:
        """Return the node with this key, if it belongs to this machine (spec 2.9)."""
        for engine in self:
            node = engine.snapshot.node_of(machine, key)
            if node is not None:
                return engine, node
        return None

    def knows_node_key(self, key: NodeKey) -> bool:
        """Say whether some tailnet has a node with this key (DERP admission)."""
        return any(key in engine.snapshot.by_node_key for engine in self)

    def knows_machine(self, machine: MachineKey) -> bool:
        """Say whether some tailnet has a node of this machine."""
        return any(machine in engine.snapshot.by_machine for engine in self)

    def of_auth_key(self, key: AuthKeyId) -> Engine | None:
        """Return the tailnet this pre-auth key lets into."""
        return next((e for e in self if key in e.snapshot.auth_keys), None)

    def of_login(self, login: LoginId) -> Engine | None:
        """Return the tailnet this pending login waits at."""
        return next((e for e in self if login in e.snapshot.logins), None)

    def of_ssh(self, machine: MachineKey, source: NodeId, target: NodeId) -> Engine | None:
        """Return the tailnet in which a node of this machine is asked by another to be let in."""
        for engine in self:
            nodes = engine.snapshot.nodes
            if target in nodes and nodes[target].machine_key == machine and source in nodes:
                return engine
        return None

    def of_ssh_check(self, check: LoginId) -> Engine | None:
        """Return the tailnet of this SSH check."""
        return next((e for e in self if check in e.snapshot.ssh_checks), None)

    def of_api_key(self, key: ApiKeyId) -> Engine | None:
        """Return the tailnet this API token belongs to."""
        return next((e for e in self if key in e.snapshot.api_keys), None)
