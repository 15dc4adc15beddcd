"""Two server processes on one PostgreSQL database are one server to their clients."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.aio import aio
from support.control_world import Json
from support.postgres import PostgresServer
from support.real_clients import eventually
from support.replicas import Pair, Replica, replicas, without_access

# Several processes start for each test.
pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(120)]

ALICE = "alice@example.com"


@pytest.fixture(scope="module")
def shared_pair(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """Two replicas for the tests that leave them as they were."""
    with replicas(postgres, tmp_path_factory.mktemp("replicas")) as pair:
        yield pair


@pytest.fixture
def pair(postgres: PostgresServer, tmp_path: Path) -> Iterator[Pair]:
    """Two replicas of which one may be killed."""
    with replicas(postgres, tmp_path) as pair:
        yield pair


async def join(replica: Replica, name: str, key: str) -> Json:
    """Register a device at a replica."""
    async with replica.device(name) as device:
        return await device.register(auth=key)


async def staff_and_web(pair: Pair) -> None:
    """Let alice's laptop join at the first replica, a web server at the second."""
    api = pair.one.api()
    laptop = await join(pair.one, "laptop", api.auth_key(user=ALICE))
    web = await join(pair.two, "web", api.auth_key(tags=("tag:web",)))
    assert (laptop["Error"], web["Error"]) == ("", "")
    api.http.close()


def test_one_replica_follows_the_repository(shared_pair: Pair) -> None:
    """The other one says so, and shows what that one says."""
    one, two = shared_pair.one.gitops(), shared_pair.two.gitops()
    assert (one.pop("followedHere"), two.pop("followedHere")) == (True, False)
    restless = ("lastAttempt", "lastSuccess")
    assert {k: v for k, v in two.items() if k not in restless} == {
        k: v for k, v in one.items() if k not in restless
    }


def test_a_bad_commit_is_shown_and_looked_at_again_at_either(shared_pair: Pair) -> None:
    """With file and line; a sync at the one that does not follow answers with a new look."""
    repository = shared_pair.repository
    good = repository.read()
    repository.commit("broken", policy="{")
    for replica in (shared_pair.one, shared_pair.two):
        eventually("the problem is shown", lambda at=replica: at.gitops()["problems"])  # type: ignore[misc]
        assert replica.gitops()["problems"][0]["file"] == "policy.hujson"
    before = shared_pair.two.gitops()
    with contextlib.closing(shared_pair.two.api().http) as http:
        synced = http.post("/tailnet/-/gitops/sync", timeout=30)
    assert synced.status_code == 200, synced.text
    after = synced.json()
    assert after["lastAttempt"] > before["lastAttempt"]
    assert (after["problems"], after["followedHere"]) == (before["problems"], False)
    commit = repository.commit("mended", policy=good)
    with contextlib.closing(shared_pair.two.api().http) as http:
        mended = http.post("/tailnet/-/gitops/sync", timeout=30).json()
    assert (mended["current"]["commit"], mended["problems"]) == (commit, [])


def test_what_operators_want_is_wanted_at_both(shared_pair: Pair) -> None:
    """Suspended and rolled back at the one that does not follow; resumed, both go on."""
    one, two, repository = shared_pair.one, shared_pair.two, shared_pair.repository
    policy, good = repository.read(), one.gitops()["current"]["commit"]
    bad = repository.commit("to be rolled back", policy=policy + "\n")
    eventually("it is in force", lambda: two.gitops()["current"]["commit"] == bad)
    with contextlib.closing(two.api().http) as http:
        body = {"commit": good, "reason": "it broke ssh"}
        done = http.post("/tailnet/-/gitops/rollback", json=body, timeout=30)
        assert done.status_code == 200, done.text
        assert (
            done.json()["revert"]
            == f"git revert --no-edit -m 1 --first-parent {good[:12]}..{bad[:12]}"
        )
        for replica in (one, two):
            eventually("it is said", lambda at=replica: standing(at) == (good, True, True))  # type: ignore[misc]
        after = repository.commit("mended", policy=policy)
        resumed = http.post("/tailnet/-/gitops/resume", timeout=60)
        assert resumed.status_code == 200, resumed.text
    for replica in (one, two):
        eventually("both go on", lambda at=replica: standing(at) == (after, False, False))  # type: ignore[misc]


def standing(replica: Replica) -> tuple[str, bool, bool]:
    """Return what is in force there, whether following is suspended, and whether it drifted."""
    status = replica.gitops()
    said = {one["name"]: one["state"] for one in status["conditions"]}
    return status["current"]["commit"], said["Suspended"], said["Drifted"]


@aio
async def test_a_commit_reaches_the_clients_of_both(shared_pair: Pair) -> None:
    """What the first replica puts in force changes the maps at the second one too, and back."""
    repository = shared_pair.repository
    open_policy = repository.read()
    await staff_and_web(shared_pair)
    async with (
        shared_pair.one.connected("laptop") as laptop,
        shared_pair.two.connected("web") as web,
    ):
        await laptop.sees("web")
        await web.sees("laptop")
        repository.commit("close", policy=without_access(repository))
        await laptop.loses("web")
        await web.loses("laptop")
        repository.commit("open", policy=open_policy)
        await laptop.sees("web")
        await web.sees("laptop")


@aio
async def test_a_one_shot_key_used_at_both_at_once_admits_one(shared_pair: Pair) -> None:
    """Whichever is second is told that the key was used, every time."""
    api = shared_pair.two.api()
    for attempt in range(8):
        key = api.auth_key(user=ALICE)
        async with (
            shared_pair.one.device(f"left-{attempt}") as left,
            shared_pair.two.device(f"right-{attempt}") as right,
        ):
            told = await asyncio.gather(left.register(auth=key), right.register(auth=key))
        assert sorted((answer["MachineAuthorized"], answer["Error"]) for answer in told) == [
            (False, "the auth key was used already"),
            (True, ""),
        ]
    api.http.close()


@aio
async def test_a_login_begun_at_one_replica_is_approved_at_the_other(shared_pair: Pair) -> None:
    """The device that waits is let in at once, wherever the operator clicked."""
    async with shared_pair.one.device("tablet") as tablet:
        asked = await tablet.register()
        waiting = await tablet.following(asked["AuthURL"])
        path = f"/logins/{asked['AuthURL'].rpartition('/')[2]}"
        api = shared_pair.two.api()
        await asyncio.to_thread(
            eventually, "it is known here", lambda: api.http.get(path).status_code == 200
        )
        approved = api.http.post(f"{path}/approve", json={"user": ALICE})
        assert approved.status_code == 200, approved.text
        api.http.close()
        assert b'"MachineAuthorized":true' in (await waiting.answer()).body


@aio
async def test_a_killed_replica_loses_nothing_and_its_clients_move(pair: Pair) -> None:
    """Kill -9 amid registrations: who was acknowledged is known; who was online goes and returns."""
    await staff_and_web(pair)
    api = pair.two.api()
    key = api.auth_key(user=ALICE, reusable=True)
    acknowledged: set[str] = set()

    async def register(name: str) -> None:
        told = await join(pair.one, name, key)
        assert told["MachineAuthorized"], told
        acknowledged.add(name)
        if len(acknowledged) == 10:
            pair.one.process.stop(signal.SIGKILL)

    async with pair.two.connected("web") as web:
        async with pair.one.connected("laptop") as laptop:
            await laptop.sees("web")
            await web.sees("laptop")
            names = [f"device-{number}" for number in range(30)]
            await asyncio.gather(*map(register, names), return_exceptions=True)
        assert len(acknowledged) >= 10
        assert acknowledged <= api.devices().keys()
        await web.sees("laptop", online=False)
        before = api.devices()["laptop"]["nodeId"]
        async with pair.two.connected("laptop") as laptop:
            await web.sees("laptop")
            await laptop.sees("web")
        assert api.devices()["laptop"]["nodeId"] == before
    api.http.close()
    eventually("the survivor follows", lambda: pair.two.gitops()["followedHere"])


@aio
async def test_a_stopped_replica_is_replaced_and_comes_back_as_the_other(pair: Pair) -> None:
    """SIGSTOP beyond the lease: the other follows the repository; the first one then stands by."""
    await staff_and_web(pair)
    process = pair.one.process.process
    assert process is not None
    async with pair.two.connected("web") as web, pair.one.connected("laptop") as laptop:
        await web.sees("laptop")
        await laptop.sees("web")
        process.send_signal(signal.SIGSTOP)
        await web.sees("laptop", online=False)
        commit = pair.repository.commit("close", policy=without_access(pair.repository))
        await web.loses("laptop")
        process.send_signal(signal.SIGCONT)
        # The client never left: it catches up, and is online again.
        await laptop.loses("web")
        api = pair.two.api()
        await asyncio.to_thread(
            eventually,
            "the client is online again",
            lambda: api.devices()["laptop"]["connectedToControl"],
        )
    eventually("the first stands by", lambda: not pair.one.gitops()["followedHere"])
    for replica in (pair.one, pair.two):
        assert replica.gitops()["current"]["commit"] == commit
    api.http.close()


@aio
async def test_streams_outlive_a_restart_of_the_database(shared_pair: Pair) -> None:
    """Immediate restart: no stream ends, and what is decided afterwards reaches both replicas."""
    repository = shared_pair.repository
    open_policy = repository.read()
    await staff_and_web(shared_pair)
    async with (
        shared_pair.one.connected("laptop") as laptop,
        shared_pair.two.connected("web") as web,
    ):
        await laptop.sees("web")
        await web.sees("laptop")
        await asyncio.to_thread(shared_pair.postgres.restart)
        repository.commit("close", policy=without_access(repository))
        await laptop.loses("web")
        await web.loses("laptop")
        repository.commit("open", policy=open_policy)
        await web.sees("laptop")
        await laptop.sees("web")
