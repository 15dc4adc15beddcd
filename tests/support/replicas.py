"""Two server processes on one PostgreSQL database, and protocol-level devices at either.

with replicas(postgres, tmp_path) as pair:
    async with pair.one.device("laptop") as laptop: ...
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from mergescale.kernel.keys import MachineKey, PrivateKey
from mergescale.wire.noise import public_key
from support.control_world import Device, MapStream
from support.fold import Client
from support.machines import CAPABILITY_VERSION
from support.noise_client import NoiseClient
from support.plain import PLAIN
from support.postgres import PostgresServer
from support.server_process import Api, PolicyRepository, ServerProcess
from support.worlds import key_bytes

#: Short, so that a dead replica is noticed soon; long enough for a busy machine.
LEASE_S = 1.5


@dataclass(slots=True)
class Replica:
    """One server process."""

    process: ServerProcess
    token: str = ""

    @contextlib.asynccontextmanager
    async def device(self, name: str) -> AsyncIterator[Device]:
        """Connect a machine here; the same name is the same machine at every replica."""
        async with httpx.AsyncClient(verify=PLAIN, trust_env=False) as http:
            told = await http.get(f"{self.process.url}/key?v={CAPABILITY_VERSION}")
        machine = PrivateKey(key_bytes(f"machine {name}"))
        async with NoiseClient.connect(
            "127.0.0.1",
            self.process.port,
            machine=machine,
            server=MachineKey.parse(told.json()["publicKey"]),
            version=CAPABILITY_VERSION,
        ) as noise:
            yield Device(name, noise, public_key(machine), CAPABILITY_VERSION)

    @contextlib.asynccontextmanager
    async def connected(self, name: str) -> AsyncIterator[Held]:
        """Connect a machine that has joined, and open its map stream."""
        async with self.device(name) as device, device.polling() as stream:
            yield Held(device, stream, Client())

    def api(self) -> Api:
        """Return a client of the API here; one token opens it at every replica."""
        return Api(self.process.url, self.token)

    def gitops(self) -> dict[str, Any]:
        """Return what this replica says of the repository."""
        with contextlib.closing(self.api().http) as http:
            status: dict[str, Any] = http.get("/tailnet/-/gitops").json()
        return status


@dataclass(slots=True)
class Held:
    """A device with a map stream, and what it holds of the tailnet."""

    device: Device
    stream: MapStream
    map: Client

    async def until(self, holds: Callable[[Client], object]) -> None:
        """Take messages until what is held is as wanted; the test's deadline is the deadline."""
        while self.map.node is None or not holds(self.map):
            self.map.receive(await self.stream.text())

    @property
    def peers(self) -> dict[str, bool]:
        """The first labels of the peers' names, and who of them is online."""
        return {
            peer["Name"].partition(".")[0]: bool(peer.get("Online"))
            for peer in self.map.peers.values()
        }

    async def sees(self, peer: str, *, online: bool = True) -> None:
        """Take messages until it is a peer, online or not."""
        await self.until(lambda _: self.peers.get(peer) is online)

    async def loses(self, peer: str) -> None:
        """Take messages until it is no peer."""
        await self.until(lambda _: peer not in self.peers)


@dataclass(slots=True)
class Pair:
    """Two replicas; `one` was first, so it has the duties."""

    postgres: PostgresServer
    repository: PolicyRepository
    one: Replica
    two: Replica


@contextlib.contextmanager
def replicas(
    postgres: PostgresServer, folder: Path, *, url: str = "", first_url: str = "", **settings: str
) -> Iterator[Pair]:
    """Run two replicas, the second one after the first, on a database of their own.

    Args:
        postgres: where it is.
        folder: of this test only.
        url: of the database; empty for a new one.
        first_url: how the first replica reaches it, where that is another way.
        settings: of both.
    """
    repository = PolicyRepository.from_example(folder / "policy", "01-start-up")
    url = url or postgres.new_database()
    # Its tests close the tailnet by commit, which the gates would refuse.
    followed = {"url": str(repository.folder), "gates": {"empty": False, "lockout": False}}
    settings = {
        "tailnets": json.dumps({"default": followed}),
        "database_url": url,
        "master_key_file": str(folder / "master-key"),
        "lease_s": str(LEASE_S),
        "relay": "false",
        **settings,
    }
    first = {**settings, "database_url": first_url or url}
    one = Replica(ServerProcess(folder / "one", settings=first))
    two = Replica(ServerProcess(folder / "two", settings=settings))
    try:
        one.process.start()
        one.token = two.token = (one.process.state_dir / "admin-token").read_text("ascii").strip()
        two.process.start()
        yield Pair(postgres, repository, one, two)
    finally:
        one.process.stop()
        two.process.stop()
        postgres.drop(url)


def without_access(repository: PolicyRepository) -> str:
    """Return the policy without the rule that lets staff reach the web servers."""
    lines = repository.read().splitlines(keepends=True)
    return "".join(line for line in lines if "demo: remove this line" not in line)
