"""What is under test: a server of our own or several on one database, or somebody else's."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import httpx

from bench import tailnet
from bench.link import Server
from bench.postgres import Cluster
from bench.process import cpu_s, family_cpu_s
from bench.replica import Replica, serving

_GIT: Final = {
    "GIT_AUTHOR_NAME": "Bench",
    "GIT_AUTHOR_EMAIL": "bench@example.com",
    "GIT_COMMITTER_NAME": "Bench",
    "GIT_COMMITTER_EMAIL": "bench@example.com",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


@dataclass(frozen=True, slots=True)
class Spent:
    """Processor time, in seconds; nothing of a server that is not ours to look at.

    Attributes:
        servers_s: of all server processes together.
        database_s: of PostgreSQL's processes, where there are any.
    """

    servers_s: float = 0.0
    database_s: float = 0.0

    def since(self, before: Spent) -> Spent:
        """Return what was spent after `before`."""
        return Spent(self.servers_s - before.servers_s, self.database_s - before.database_s)

    def say(self, among: int = 1) -> str:
        """Say how much it is for each of so many; unlike a time, others' work changes it little."""
        if not self.servers_s:
            return ""
        said = f"{_ms(self.servers_s / among)} ms of processor{' each' if among > 1 else ''}"
        return said + (
            f", {_ms(self.database_s / among)} of PostgreSQL's" if self.database_s else ""
        )


class Target(Protocol):
    """Something to put load on."""

    def spent(self) -> Spent:
        """Return the processor time spent so far."""
        ...

    def auth_key(self, number: int) -> str:
        """Return the pre-auth key that client `number` registers with."""
        ...


@dataclass(frozen=True, slots=True)
class Stranger:
    """A server that somebody else runs: it has an address and a key, and nothing else is known."""

    server: Server
    key: str

    def spent(self) -> Spent:
        """Nothing is known of it."""
        return Spent()

    def auth_key(self, number: int) -> str:  # noqa: ARG002 - one for all
        """Return the reusable key given on the command line."""
        return self.key


@dataclass(slots=True)
class Site:
    """A tailnet of our own, in a scratch folder.

    Attributes:
        replicas: the server processes; the first one follows the repository.
        cluster: the PostgreSQL that they share; None for one process on SQLite.
    """

    folder: Path
    replicas: tuple[Replica, ...]
    cluster: Cluster | None = None
    policy: tailnet.Policy = field(default_factory=tailnet.Policy)
    _keys: dict[str, str] = field(default_factory=dict)

    @property
    def api(self) -> httpx.Client:
        """The API of the first process."""
        return self.replicas[0].api

    @property
    def servers(self) -> list[Server]:
        """Where clients connect to."""
        return [replica.server for replica in self.replicas]

    @property
    def pids(self) -> list[int]:
        """The server processes."""
        return [replica.pid for replica in self.replicas]

    def spent(self) -> Spent:
        """Return the processor time of the servers and of their database so far."""
        database_s = family_cpu_s(self.cluster.pid) if self.cluster is not None else 0.0
        return Spent(sum(map(cpu_s, self.pids)), database_s)

    def auth_key(self, number: int) -> str:
        """Return a reusable key of the owner of client `number`, made at its first use."""
        tag, owner = tailnet.tag_of(number), tailnet.owner_of(number)
        name = tag or owner or ""
        if name not in self._keys:
            create = {"reusable": True, "preauthorized": True, "tags": [tag] if tag else []}
            body: dict[str, Any] = {"capabilities": {"devices": {"create": create}}}
            if owner:
                body["user"] = owner
            answer = self.api.post("/tailnet/-/keys", json=body)
            answer.raise_for_status()
            self._keys[name] = answer.json()["key"]
        return self._keys[name]

    def make_keys(self, size: int) -> None:
        """Make the keys of all clients ahead."""
        for number in range(size):
            self.auth_key(number)

    def commit(self, policy: tailnet.Policy) -> None:
        """Commit a policy to the watched repository."""
        self.policy = policy
        repository = self.folder / "policy"
        (repository / "policy.hujson").write_text(policy.text, "utf-8")
        _git(repository, "commit", "--quiet", "--all", "--message", "one rule")

    def lag(self, start: float, end: float) -> list[float]:
        """Return how late the servers' loops were, in seconds, between two monotonic times."""
        return [late_s for replica in self.replicas for late_s in replica.lag(start, end)]


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Site]:
    """Run one server on SQLite with the defaults, on a fresh tailnet, for the block."""
    settings = {"repository": str(_repository(folder))}
    with serving(folder / "server", settings) as replica:
        yield Site(folder, (replica,))


@contextlib.contextmanager
def sharing(folder: Path, cluster: Cluster, replicas: int) -> Iterator[Site]:
    """Run so many servers on a fresh database of PostgreSQL for the block, one after another.

    They have no relay: that shares nothing.
    """
    settings = {
        "repository": str(_repository(folder)),
        "database_url": cluster.create(f"for_{replicas}"),
        "master_key_file": str(folder / "master-key"),
        "relay": "false",
    }
    with contextlib.ExitStack() as resources:
        # The first one migrates the database, makes the keys and takes the duties.
        started = [
            resources.enter_context(serving(folder / f"server-{number}", settings))
            for number in range(1, replicas + 1)
        ]
        yield Site(folder, tuple(started), cluster)


def _repository(folder: Path) -> Path:
    """Make the repository with a first policy."""
    repository = folder / "policy"
    repository.mkdir(parents=True)
    _git(repository, "init", "--quiet", "--initial-branch=main")
    (repository / "policy.hujson").write_text(tailnet.Policy().text, "utf-8")
    (repository / "users.hujson").write_text(tailnet.users_text(), "utf-8")
    _git(repository, "add", "--all")
    _git(repository, "commit", "--quiet", "--message", "a first policy")
    return repository


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2f}" if seconds < 0.01 else f"{1000 * seconds:.0f}"


def _git(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", *arguments], cwd=folder, env={**os.environ, **_GIT}, check=True, capture_output=True
    )
