"""Webhooks at a running server: a push comes into force long before the next poll."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import httpx
import pytest

from mergescale.gitops.webhooks import SPACING_S
from support.command_line import CommandLine
from support.deliveries import OTHER, github
from support.plain import PLAIN
from support.postgres import PostgresServer
from support.real_clients import eventually
from support.replicas import replicas
from support.server_process import Api, PolicyRepository, ServerProcess, serving

# A server process starts for each test.
pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(120)]

#: So long that only a delivery can explain a look. (A local path is asked every 30 s all the same.)
NEVER_S = 3600


class World:
    """A server that follows a repository, and its forge."""

    def __init__(self, folder: Path) -> None:
        self.repository = PolicyRepository.from_example(folder / "policy", "01-start-up")
        followed = {"url": str(self.repository.folder), "poll_s": NEVER_S}
        tailnets = json.dumps({"default": followed})
        self._asked = folder / "asked"
        program = folder / "bin" / "git"
        program.parent.mkdir()
        asks = f"*' fetch '*) echo >>{self._asked} ;;"
        program.write_text(
            f'#!/bin/sh\ncase " $* " in {asks} esac\nexec {shutil.which("git")} "$@"\n'
        )
        program.chmod(0o700)
        self.server = ServerProcess(
            folder / "state",
            settings={"tailnets": tailnets},
            variables={"PATH": f"{program.parent}:{os.environ['PATH']}"},
        )
        self.cli = CommandLine(("--state-dir", str(self.server.state_dir)))
        self.sent = 0

    def webhook(self) -> tuple[str, str]:
        """Make a secret; return the address and it."""
        url, secret = self.cli("gitops", "webhook", "add").out.split()
        return url, secret

    def deliver(self, url: str, secret: str, commit: str) -> tuple[int, str]:
        """Tell of a push as GitHub does."""
        body = json.dumps({"ref": "refs/heads/main", "after": commit}).encode()
        answer = httpx.post(
            url, content=body, headers=github(secret, body, commit), timeout=10, verify=PLAIN
        )
        return answer.status_code, answer.text

    def in_force(self) -> str:
        status = self.cli("gitops", "status", "-o", "json").json
        commit: str = status["current"]["commit"] if status["current"] else ""
        return commit

    def fetches(self) -> int:
        """Return how often git was asked."""
        return len(self._asked.read_text().splitlines())

    def looks(self, api: Api) -> str:
        """Return when the repository was looked at last."""
        last: str = api.http.get("/tailnet/-/gitops").json()["lastAttempt"]
        return last


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_push_comes_into_force_at_once(world: World) -> None:
    """A signed delivery is a look; a repeated one, one with a wrong or an old secret are none."""
    with serving(world.server) as api:
        first = world.in_force()
        assert first == world.repository.git("rev-parse", "HEAD")
        url, old = world.webhook()
        assert url.startswith(f"{world.server.url}/hook/")
        assert "nothing received yet" in world.cli("gitops", "status").out
        second = world.repository.commit("second", policy=f"// two\n{world.repository.read()}")
        assert world.deliver(url, OTHER, second)[0] == 401
        assert world.in_force() == first
        assert world.deliver(url, old, second) == (202, "accepted")
        eventually("the second is in force", lambda: world.in_force() == second, within_s=10)
        assert "last received" in world.cli("gitops", "status").out

        # Exchanged without missing a push.
        _, new = world.webhook()
        looked = world.looks(api)
        assert world.deliver(url, old, second) == (202, "repeated")
        third = world.repository.commit("third", policy=f"// three\n{world.repository.read()}")
        assert world.deliver(url, old, third) == (202, "accepted")
        eventually("the third is in force", lambda: world.in_force() == third, within_s=10)
        assert world.looks(api) > looked
        listed = world.cli("gitops", "webhook", "list", "-o", "json").json
        assert listed["url"] == url
        assert len(listed["secrets"]) == 2
        gone = listed["secrets"][0]["id"]
        assert world.cli("gitops", "webhook", "drop", gone).out == f"dropped {gone}\n"
        fourth = world.repository.commit("fourth", policy=f"// 4\n{world.repository.read()}")
        assert world.deliver(url, old, fourth)[0] == 401
        assert world.deliver(url.replace("/hook/", "/hook/0"), new, fourth)[0] == 404
        assert world.deliver(url, new, fourth) == (202, "accepted")
        eventually("the fourth is in force", lambda: world.in_force() == fourth, within_s=10)
        metrics = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(world.server.state_dir / "mergescale.sock"))
        )
        told = metrics.get("http://local/metrics").text
        metrics.close()
        for line in (
            'mergescale_webhooks_total{outcome="accepted",tailnet="default"} 3.0',
            'mergescale_webhooks_total{outcome="repeated",tailnet="default"} 1.0',
            'mergescale_webhooks_total{outcome="refused",tailnet="default"} 2.0',
            'mergescale_webhooks_total{outcome="unknown",tailnet=""} 1.0',
        ):
            assert line in told
        log = world.server.log.read_text("utf-8")
        assert not any(
            secret in log or secret.removeprefix("whsec_") in log for secret in (old, new)
        )


def test_a_storm_of_deliveries_is_a_look_or_two(world: World) -> None:
    """A thousand different pushes, all of them signed, as fast as they come."""
    with serving(world.server), httpx.Client(timeout=10) as http:
        url, secret = world.webhook()
        began_s = time.monotonic()
        commit = world.repository.commit("new", policy=f"// new\n{world.repository.read()}")
        for number in range(1000):
            body = b"%d" % number
            answer = http.post(url, content=body, headers=github(secret, body, f"{number}"))
            assert answer.status_code == 202
        eventually("the commit is in force", lambda: world.in_force() == commit, within_s=10)
        took_s = time.monotonic() - began_s
    # One at the start, then one each second at most: under way, and one after it.
    assert 1 <= world.fetches() <= took_s / SPACING_S + 3


def test_any_replica_takes_a_delivery(postgres: PostgresServer, tmp_path: Path) -> None:
    """The one that does not follow the repository has the other one look."""
    with replicas(postgres, tmp_path, relay="false") as pair:
        cli = CommandLine(("--state-dir", str(pair.two.process.state_dir)))
        url, secret = cli("gitops", "webhook", "add").out.split()
        assert url.startswith(pair.two.process.url)
        asked = pair.one.gitops()["lastAttempt"]
        body = b"{}"
        answer = httpx.post(
            url, content=body, headers=github(secret, body, "1"), timeout=10, verify=PLAIN
        )
        assert answer.status_code == 202
        eventually(
            "it was looked at", lambda: pair.one.gitops()["lastAttempt"] > asked, within_s=10
        )
        there = url.replace(pair.two.process.url, pair.one.process.url)
        body = b"[]"
        answer = httpx.post(there, content=body, headers=github(secret, body, "2"), timeout=10)
        assert (answer.status_code, answer.text) == (202, "accepted")
