"""gitops-pusher's three words, at a server that follows a repository and at one that does not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from pathlib import Path

import pytest

from mergescale.domain.declaration import fingerprint
from support.aio import aio
from support.gitops_pusher import GitopsPusher, local_etag
from support.replicas import Replica
from support.server_process import PolicyRepository, ServerProcess

# Server processes start one after another.
pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(120)]

POLICY = """// who may what
{"acls": [{"action": "accept", "src": ["alice@example.com"], "dst": ["bob@example.com:22"]},],
  "tests": [{"src": "alice@example.com", "accept": ["bob@example.com:22"]}]}
"""
FAILING = POLICY.replace('bob@example.com:22"]}]', 'bob@example.com:80"]}]')


def _key(server: Replica, login: str) -> str:
    api = server.api()
    with contextlib.closing(api.http):
        api.http.post("/tailnet/-/users", json={"loginName": login})
        return api.auth_key(user=login)


async def _joined(server: Replica, name: str, login: str) -> None:
    key = await asyncio.to_thread(_key, server, login)
    async with server.device(name) as device:
        await device.join(key)


@aio
async def test_a_pushed_policy_is_in_force_at_once_and_after_a_kill(tmp_path: Path) -> None:
    """It reaches connected clients, is logged, outlives the process, and is found by its tag."""
    settings = {"policy_by_api": "true", "relay": "false"}
    server = Replica(ServerProcess(tmp_path / "state", settings=settings))
    await asyncio.to_thread(server.process.start)
    try:
        server.token = (server.process.state_dir / "admin-token").read_text("ascii").strip()
        pusher = GitopsPusher(server.process.port, server.token)
        await _joined(server, "laptop", "alice@example.com")
        await _joined(server, "desk", "bob@example.com")
        async with server.connected("desk") as desk, server.connected("laptop") as laptop:
            await laptop.until(lambda held: held.node is not None)
            assert laptop.peers == {}
            before = await asyncio.to_thread(pusher.etag)
            assert before != local_etag(POLICY)
            failed = await asyncio.to_thread(pusher.test, FAILING)
            assert (failed.status, json.loads(failed.body)["message"]) == (200, "test(s) failed")
            refused = await asyncio.to_thread(pusher.apply, FAILING, before)
            assert (refused.status, refused.body) == (400, failed.body)
            good = await asyncio.to_thread(pusher.test, POLICY)
            assert (good.status, good.body) == (200, "{}")
            applied = await asyncio.to_thread(pusher.apply, POLICY, before)
            assert (applied.status, applied.body) == (200, POLICY)
            await laptop.until(lambda held: len(held.peers) == 1)
            await desk.until(lambda held: len(held.peers) == 1)
            assert set(laptop.peers) == {"desk"}
        late = await asyncio.to_thread(pusher.apply, '{"acls": []}', before)
        assert late.status == 412
        [event] = server.process.events("policy.set")
        assert (event["commit"], event["by"][:6]) == (fingerprint(POLICY), "token ")

        await asyncio.to_thread(server.process.stop, signal.SIGKILL)
        await asyncio.to_thread(server.process.start)
        assert await asyncio.to_thread(pusher.etag) == local_etag(POLICY)
        async with server.connected("laptop") as laptop:
            await laptop.until(lambda held: len(held.peers) == 1)
        assert await asyncio.to_thread(pusher.etag) == local_etag(POLICY)
    finally:
        await asyncio.to_thread(server.process.stop, signal.SIGKILL)


def test_a_watched_repository_refuses_and_takes_over_from_the_api(tmp_path: Path) -> None:
    """The refusal names repository and commit; a policy of the API does not hold a branch back."""
    repository = PolicyRepository.from_example(tmp_path / "policy", "01-start-up")
    alone = {"policy_by_api": "true", "relay": "false"}
    server = ServerProcess(tmp_path / "state", settings=alone).start()
    try:
        token = (server.state_dir / "admin-token").read_text("ascii").strip()
        pusher = GitopsPusher(server.port, token)
        assert pusher.apply(POLICY, pusher.etag()).status == 200
        server.stop()
        server.repository = repository.folder
        server.start()
        assert server.cli("gitops", "sync").returncode == 0
        written = repository.read()
        assert pusher.etag() == local_etag(written)
        refused = pusher.apply(POLICY, pusher.etag())
        commit = repository.git("rev-parse", "HEAD")
        assert (refused.status, json.loads(refused.body)) == (
            409,
            {
                "message": "the policy of this tailnet is in the repository"
                f" {repository.folder}, commit {commit} is in force; change it there"
            },
        )
        assert pusher.test(written).body == "{}"
        made = server.cli("-o", "json", "oauth-clients", "create", "--scope", "policy_file:read")
        client = json.loads(made.stdout)
        of_ci = GitopsPusher.of_client(server.port, client["id"], client["key"])
        server.stop()
        server.start()
        assert of_ci.etag() == local_etag(written)
        assert of_ci.test(FAILING).body == pusher.test(FAILING).body != "{}"
        assert of_ci.apply(POLICY, of_ci.etag()).status == 403
        assert pusher.etag() == local_etag(written)
    finally:
        server.stop(signal.SIGKILL)
