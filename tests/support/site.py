"""A server, the repository it watches, and real clients around it: the world of an interop test.

Whatever a test waits for is read from the server (its API, its log), or from a client's own log.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.real_clients import GoClient, eventually
from support.server_process import Api, PolicyRepository, ServerProcess, serving

ALICE = "alice@example.com"
BOB = "bob@example.com"

#: Nobody reaches anybody.
CLOSED = """{
  "tagOwners": {"tag:web": ["alice@example.com"], "tag:db": ["bob@example.com"]},
  "acls": [{"action": "accept", "src": ["bob@example.com"], "dst": ["tag:db:5432"]}],
}
"""
#: People reach the web servers' one port, and nothing else.
WEB = """{
  "tagOwners": {"tag:web": ["alice@example.com"], "tag:db": ["bob@example.com"]},
  "acls": [
    {"action": "accept", "src": ["alice@example.com"], "dst": ["tag:web:80"]},
  ],
}
"""
#: Everybody reaches everybody.
OPEN = """{
  "tagOwners": {"tag:web": ["alice@example.com"], "tag:db": ["bob@example.com"]},
  "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}],
}
"""
_USERS = '{"users": [{"login": "alice@example.com"}, {"login": "bob@example.com"}]}'


@dataclass(slots=True)
class Site:
    """A running server and where its clients live.

    Attributes:
        clients: ends every client that was started, whatever became of the test.
    """

    folder: Path
    repository: PolicyRepository
    server: ServerProcess
    api: Api
    clients: ExitStack

    def client(self, name: str, *, folder: str = "", **settings: Any) -> GoClient:
        """Return a Go client of this server, not started yet; it is ended with the test."""
        client = GoClient(name, self.server.url, self.folder / (folder or name), **settings)
        self.clients.callback(client.stop, signal.SIGKILL)
        return client

    def joined(self, name: str, *, user: str = ALICE, **settings: Any) -> GoClient:
        """Start a client of a user and wait until it is connected."""
        return self._joined(name, self.api.auth_key(user=user), settings)

    def joined_tagged(self, name: str, *tags: str, **settings: Any) -> GoClient:
        """Start a client that the tags own and wait until it is connected."""
        return self._joined(name, self.api.auth_key(tags=tags), settings)

    def apply(self, why: str, **files: str) -> str:
        """Commit files and wait until every connected client was sent what it means for them."""
        commit = self.repository.commit(why, **files)
        eventually(f'"{why}" is in force', lambda: self._in_force(commit), within_s=15)
        return commit

    def gitops(self) -> dict[str, Any]:
        """Return what the server says of the repository."""
        answer = self.api.http.get("/tailnet/-/gitops")
        assert answer.status_code == 200, answer.text
        status: dict[str, Any] = answer.json()
        return status

    def device(self, name: str) -> dict[str, Any]:
        """Return a device by its name."""
        return self.api.devices()[name]

    def act(self, device: str, action: str, /, **body: Any) -> None:
        """Do what the API calls ``POST /device/<id>/<action>``."""
        node_id = self.device(device)["nodeId"]
        answer = self.api.http.post(f"/device/{node_id}/{action}", json=body)
        assert answer.status_code == 200, answer.text

    def delete(self, name: str) -> None:
        """Remove a device."""
        answer = self.api.http.delete(f"/device/{self.device(name)['nodeId']}")
        assert answer.status_code == 200, answer.text

    def settle(self, *clients: GoClient, within_s: float = 15) -> None:
        """Wait until the server and the clients agree that they are ready for traffic.

        The relay has to be up on both sides before the first packet: the first WireGuard
        handshake goes through it, and a lost one is repeated after five seconds only.
        """
        names = [client.name for client in clients]
        eventually(f"{names} settled", lambda: self.api.settled(*names), within_s=within_s)
        eventually(f"{names} ready", lambda: all(c.ready for c in clients), within_s=within_s)

    def _joined(self, name: str, auth_key: str, settings: dict[str, Any]) -> GoClient:
        client = self.client(name, auth_key=auth_key, **settings).start()
        self.settle(client)
        return client

    def _in_force(self, commit: str) -> bool:
        applied = [e for e in self.server.events("policy.applied") if e["commit"] == commit]
        return bool(applied) and self.gitops()["current"]["commit"] == commit


@contextmanager
def open_site(
    folder: Path, *, settings: Mapping[str, str], policy: str = OPEN, **files: str
) -> Iterator[Site]:
    """Run a server on a fresh repository; `files` are further files of its first commit."""
    watched = folder / "policy"
    watched.mkdir(parents=True)
    repository = PolicyRepository(watched)
    repository.git("init", "--quiet", "--initial-branch=main")
    repository.commit("a first policy", policy=policy, **{"users": _USERS, **files})
    server = ServerProcess(folder / "server", watched, settings)
    with ExitStack() as clients, serving(server) as api:
        # It is on the database that the test asked for.
        assert (server.state_dir / "mergescale.db").exists() == ("database_url" not in settings)
        yield Site(folder, repository, server, api, clients)
