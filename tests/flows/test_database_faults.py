"""A server whose PostgreSQL fails: maps go on being served, writes are refused, nobody restarts."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from support.aio import run
from support.faults import devices, new_key, register, staff_and_web
from support.link import COMMIT, Fate, Link, link_to
from support.plain import PLAIN
from support.postgres import PostgresServer
from support.real_clients import eventually
from support.replicas import Held, Pair, Replica, replicas, without_access
from support.stores import loaded, opened

# Several processes start for each module, and each fault lasts for some deadlines.
pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(120)]

ANSWER_S = 2.0


@dataclass(slots=True)
class Cut:
    """Two replicas, of which the first reaches the database through a link that can be harmed."""

    pair: Pair
    link: Link
    url: str

    @property
    def one(self) -> Replica:
        return self.pair.one


@pytest.fixture(scope="module")
def cut(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cut]:
    """Run them with alice's laptop and a web server joined."""
    url = postgres.new_database()
    settings = {"database_answer_s": str(ANSWER_S), "trusted_proxies": "127.0.0.1"}
    with link_to(postgres) as link:
        urls = {"url": url, "first_url": link.url(url)}
        with replicas(postgres, tmp_path_factory.mktemp("cut"), **urls, **settings) as pair:
            run(staff_and_web(pair.one))
            yield Cut(pair, link, url)


def health(replica: Replica) -> tuple[int, dict[str, str]]:
    """Return the status code of ``/health`` and the status of each part."""
    answer = httpx.get(f"{replica.process.url}/health", timeout=10, verify=PLAIN, trust_env=False)
    parts = {name: part[0]["status"] for name, part in answer.json()["checks"].items()}
    return answer.status_code, parts


async def waited(claim: str, holds: Callable[[], bool]) -> None:
    """Wait beside the loop."""
    await asyncio.to_thread(eventually, claim, holds, within_s=20)


async def refused(replica: Replica, key: str) -> None:
    """A registration and a change over the API are refused as unavailable; reading is not."""
    async with replica.device("late") as late:
        answer = await late.post("/machine/register", late.register_request(auth=key))
    api = replica.api()
    with contextlib.closing(api.http):
        body = {"loginName": "zoe@example.com", "displayName": "Zoe"}
        problem = await asyncio.to_thread(api.http.post, "/tailnet/-/users", json=body)
        known = await asyncio.to_thread(api.http.get, "/tailnet/-/devices")
    assert (answer.status, problem.status_code, known.status_code) == (503, 503, 200)


def held(client: Held) -> dict[str, Any]:
    """Return what a client may reach and who may reach it."""
    return {"peers": sorted(client.peers), "filters": dict(client.map.chunks)}


async def memory_is_the_database(cut: Cut) -> None:
    """Wait until the first replica's API knows whom the database holds, and nobody else."""
    async with opened(cut.url) as direct:
        stored = {node.name for node in (await loaded(direct.journal)).nodes.values()}
    await waited("memory is the database", lambda: devices(cut.one).keys() == stored)


@contextlib.contextmanager
def frozen(cut: Cut) -> Iterator[None]:
    """Nothing is delivered, nobody is told."""
    cut.link.freeze()
    try:
        yield
    finally:
        cut.link.thaw()


@contextlib.contextmanager
def gone(cut: Cut) -> Iterator[None]:
    """Connections are reset, new ones refused."""
    cut.link.cut()
    try:
        yield
    finally:
        cut.link.mend()


@contextlib.contextmanager
def silent_at_commit(cut: Cut) -> Iterator[None]:
    """The first commit is carried out, and nothing is heard after it."""
    cut.link.at(COMMIT, Fate.SILENT)
    try:
        eventually("it is silent", lambda: cut.link.met)
        yield
    finally:
        cut.link.thaw()


@contextlib.contextmanager
def read_only(cut: Cut) -> Iterator[None]:
    """PostgreSQL takes no writes, from anybody."""
    cut.pair.postgres.set(default_transaction_read_only="on")
    try:
        yield
    finally:
        cut.pair.postgres.set(default_transaction_read_only="off")


@pytest.mark.parametrize("fault", [frozen, gone, silent_at_commit, read_only])
def test_a_database_that_fails_costs_only_writes(
    cut: Cut, fault: Callable[[Cut], contextlib.AbstractContextManager[None]]
) -> None:
    """Streams stay, new ones are served, writes are told 503, health is ill; then all go on."""
    run(failing(cut, fault), deadline_s=100)


async def failing(
    cut: Cut, fault: Callable[[Cut], contextlib.AbstractContextManager[None]]
) -> None:
    """Let the first replica's database fail, look at everything, and mend it."""
    key = await asyncio.to_thread(new_key, cut.one, reusable=True)
    async with cut.one.connected("web") as web:
        await web.sees("laptop", online=False)
        before = held(web)
        with await asyncio.to_thread(_entered, fault(cut)) as harm:
            await waited("health is ill", lambda: health(cut.one)[1]["database"] == "fail")
            assert health(cut.one)[0] == 503
            await refused(cut.one, key)
            async with cut.one.device("laptop") as laptop, laptop.polling() as stream:
                told = json.loads(await stream.text())
                assert [peer["Name"].split(".")[0] for peer in told["Peers"]] == ["web"]
            harm.close()
        await waited("health is well", lambda: health(cut.one)[0] == 200)
        name = fault.__name__.replace("_", "-")
        assert (await register(cut.one, name, key))["Error"] == ""
        # The stream is the one from before, and it is told what comes now.
        await web.sees(name, online=False)
        api = cut.one.api()
        with contextlib.closing(api.http):
            node = api.devices()[name]["nodeId"]
            gone_again = await asyncio.to_thread(api.http.delete, f"/device/{node}")
            assert gone_again.status_code == 200
        await web.loses(name)
        assert held(web) == before
    await memory_is_the_database(cut)


def _entered(fault: contextlib.AbstractContextManager[None]) -> contextlib.ExitStack:
    """Enter a fault, to be left by closing what is returned."""
    stack = contextlib.ExitStack()
    stack.enter_context(fault)
    return stack


def test_a_replica_without_its_database_is_replaced(cut: Cut) -> None:
    """The other one takes over and narrows the policy; the first keeps its streams and follows."""
    run(replaced(cut), deadline_s=100)


async def replaced(cut: Cut) -> None:
    """Freeze the first replica's link past its lease."""
    repository, two = cut.pair.repository, cut.pair.two
    open_policy = repository.read()
    async with cut.one.connected("laptop") as laptop, two.connected("web") as web:
        await laptop.sees("web")
        await web.sees("laptop")
        holder, other = cut.one, two
        cut.link.freeze()
        try:
            await web.sees("laptop", online=False)
            await waited("the lease is ill", lambda: health(holder)[1]["lease"] == "warn")
            await waited("it lags", lambda: health(holder)[1]["following"] == "warn")
            assert not holder.gitops()["followedHere"]
            await waited("the other follows", lambda: other.gitops()["followedHere"])
            repository.commit("close", policy=without_access(repository))
            await web.loses("laptop")
            assert "web" in laptop.peers
        finally:
            cut.link.thaw()
        await laptop.loses("web")
        repository.commit("open", policy=open_policy)
        await web.sees("laptop")
        await laptop.sees("web")
    await memory_is_the_database(cut)


def test_failures_at_one_replica_count_at_the_other(cut: Cut) -> None:
    """Whoever guessed often at one has to wait at the other, after one more try; nobody else."""

    def guess(replica: Replica, path: str, host: str, **request: Any) -> httpx.Response:
        headers = {"x-forwarded-for": host, **request.pop("headers", {})}
        url = replica.process.url + path
        return httpx.get(url, headers=headers, verify=PLAIN, trust_env=False, timeout=10, **request)

    one, two = cut.pair.one, cut.pair.two
    path, wrong = "/api/v2/tailnet/-/devices", {"authorization": "Bearer mskey-api-wrong"}
    guesser, honest = "192.0.2.66", "192.0.2.67"
    tries = [guess(one, path, guesser, headers=wrong).status_code for _ in range(63)]
    # One is forgiven every ten seconds, and the machine may be slow.
    assert (set(tries[:60]), tries[-1]) == ({401}, 429)
    # What the other knows of it is the answer to the failure that it writes.
    tries = [guess(two, path, guesser, headers=wrong).status_code for _ in range(3)]
    assert (tries[0], tries[-1]) == (401, 429)
    assert guess(two, path, honest, headers=wrong).status_code == 401


def test_refused_auth_keys_at_one_replica_count_at_the_other(cut: Cut) -> None:
    """A machine that tried a wrong key often has to wait wherever it goes next."""

    async def waits_at(replica: Replica, times: int) -> list[bool]:
        async with replica.device("guesser") as device:
            told = [(await device.register(auth="no key"))["Error"] for _ in range(times)]
        return [error.startswith("too many failed attempts") for error in told]

    async def guesses() -> None:
        assert await waits_at(cut.one, 21) == [False] * 20 + [True]
        assert await waits_at(cut.pair.two, 2) == [False, True]
        key = new_key(cut.pair.two)
        assert (await register(cut.pair.two, "honest", key))["Error"] == ""

    run(guesses(), deadline_s=60)
