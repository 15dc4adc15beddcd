"""The system's clock steps under a running server (libfaketime; monotonic time is left alone)."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest

from support.aio import run
from support.control_world import Json
from support.faults import devices, new_key, one_server, register, staff_and_web, start
from support.plain import PLAIN
from support.real_clients import eventually
from support.replicas import Held, Replica

pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(300)]

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
#: Longer than the server waits between two looks for what is to be removed.
CONFIRM_S = 6
#: A week after its end a key is forgotten.
ENDED = {"the auth key has expired", "the auth key is not valid"}


@dataclass(frozen=True, slots=True)
class Stepped:
    """A server under a clock that the test sets."""

    server: Replica
    clock: Path

    def step(self, offset: str) -> None:
        """Set the clock to the true time and an offset (``+1h``)."""
        self.clock.write_text(offset, "ascii")

    def told(self) -> Json:
        """Return what ``/health`` says of the clock; asking reads it."""
        [part] = httpx.get(f"{self.server.process.url}/health", verify=PLAIN).json()["checks"][
            "clock"
        ]
        found: Json = part
        return found

    def is_behind(self, least_s: int) -> bool:
        """Say whether the server found the clock that far behind, or farther."""
        found = re.search(r"(\d+) s behind", self.told().get("output", ""))
        return found is not None and int(found[1]) >= least_s

    def restart(self, **settings: str) -> None:
        process = self.server.process
        process.settings = {**process.settings, **settings}
        process.stop()
        start(self.server)


@pytest.fixture
def stepped(tmp_path: Path) -> Iterator[Stepped]:
    """A server that believes a step after some seconds."""
    if not LIBRARIES:
        pytest.skip("not installed: libfaketime")
    clock = tmp_path / "clock"
    server, _ = one_server(
        tmp_path,
        settings={"clock_confirm_s": str(CONFIRM_S)},
        variables={
            "LD_PRELOAD": str(LIBRARIES[-1]),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # Else threads that wait for a time of that clock do not wait at all.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        },
    )
    made = Stepped(server, clock)
    made.step("+0")
    try:
        start(server)
        yield made
    finally:
        server.process.stop()


@contextlib.asynccontextmanager
async def joined(server: Replica) -> AsyncIterator[tuple[Held, Held]]:
    """Hold the streams of a laptop and a web server that see each other."""
    await staff_and_web(server)
    async with server.connected("laptop") as laptop, server.connected("web") as web:
        await laptop.sees("web")
        await web.sees("laptop")
        yield laptop, web


async def told_of(server: Replica, laptop: Held, web: Held, name: str) -> None:
    """Let one more of each join: streams that are alive tell of them."""
    for viewer, other, tags in ((laptop, f"{name}-web", ("tag:web",)), (web, f"{name}-desk", ())):
        told = await register(server, other, new_key(server, tags=tags))
        assert told["Error"] == ""
        await viewer.sees(other, online=False)


def asked(server: Replica, name: str, key: str = "") -> Json:
    """Register once, on a loop of its own."""
    answers: list[Json] = []

    async def ask() -> None:
        answers.append(await register(server, name, key))

    run(ask())
    return answers[0]


@pytest.mark.parametrize(("step", "node_keys_expire"), [("+1h", False), ("+3650d", True)])
def test_a_step_forward_expires_nothing_before_it_has_lasted(
    stepped: Stepped, step: str, node_keys_expire: bool
) -> None:
    """Keys and ephemeral nodes stand; once it is the time they go, and they never come back.

    That they go in the end shows that the step was one by which they would have gone at once.
    """
    server = stepped.server
    key = new_key(server, reusable=True)
    asked(server, "runner", new_key(server, ephemeral=True))

    async def while_clients_are_connected() -> None:
        async with joined(server) as (laptop, web):
            stepped.step(step)
            eventually("the step is seen", lambda: stepped.told()["status"] == "warn")
            while True:
                kept = "runner" in devices(server), (await register(server, "desk", key))["Error"]
                if stepped.told()["status"] == "pass":
                    break
                assert kept == (True, "")
                await asyncio.sleep(0.2)
            await told_of(server, laptop, web, "then")
            stepped.step("+0")
            eventually("the step is seen", lambda: stepped.told()["status"] == "warn")
            await told_of(server, laptop, web, "later")

    run(while_clients_are_connected(), deadline_s=60)
    assert asked(server, "late", key)["Error"] in ENDED
    eventually("the runner is removed", lambda: "runner" not in devices(server))
    assert asked(server, "laptop")["NodeKeyExpired"] is node_keys_expire
    stepped.restart()
    assert asked(server, "late", key)["Error"] in ENDED
    if node_keys_expire:
        stepped.restart(trust_clock="true")
        assert asked(server, "laptop")["NodeKeyExpired"] is False


def test_a_step_back_brings_nothing_back(stepped: Stepped) -> None:
    """What the server takes for the time goes on from where it was; so do the streams."""
    server = stepped.server
    key = new_key(server, reusable=True)

    async def while_clients_are_connected() -> None:
        async with joined(server) as (laptop, web):
            for step, least_s in (("-1h", 3_000), ("-3650d", 3_000_000)):
                before = (await fresh_map(server, "desk", key))["ControlTime"]
                stepped.step(step)
                eventually("the step is seen", partial(stepped.is_behind, least_s))
                after = (await fresh_map(server, "desk", key))["ControlTime"]
                assert before < after
                await told_of(server, laptop, web, f"then{step}")

    run(while_clients_are_connected(), deadline_s=60)


async def fresh_map(server: Replica, name: str, key: str) -> Json:
    """Register, open a map stream and return its first message."""
    async with server.device(name) as device:
        await device.join(key)
        async with device.polling() as stream:
            return await stream.next()
