"""What operators want of following, over HTTP, with a real engine and an in-memory branch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest

from mergescale.gitops.git.source import Source
from mergescale.gitops.operators.steering import Steering
from mergescale.gitops.reconcile import Reconciler
from mergescale.kernel.ids import TailnetName
from mergescale.state.ports import Fence
from support.aio import aio
from support.repositories import MemoryFetches
from support.rest import MemoryRepository, Site, served
from support.worlds import world

GITOPS = "/api/v2/tailnet/-/gitops"
CLOSED = '{"acls": []}'
OPEN = '{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}'
EMERGENCY = '{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:22"]}]}'
DUTY = Fence("duties", 1)


class Watched(MemoryRepository):
    """A branch that is followed for real; bound to its engine once that is there."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = MemoryFetches()

    def bind(self, site: Site) -> None:
        engine, source = site.tailnets.default, Source.parse("/srv/policy.git")
        self.reconciler = Reconciler(engine, source, self.branch, site.clock)
        self._steering = Steering(engine, site.journal, self.reconciler, site.clock)
        site.journal.leases[DUTY.lease] = DUTY.number

    def status(self) -> Mapping[str, Any]:
        return self.reconciler.sharing.shown(self.reconciler.status, here=True)

    async def sync(self, *, retry: bool = True) -> None:
        await self.reconciler.sync(retry=retry)

    async def push(self, policy: str) -> str:
        commit = self.branch.commit(policy)
        await self.sync()
        return commit


class Desk:
    """A site and its watched repository."""

    def __init__(self, site: Site, watched: Watched) -> None:
        self.site, self.watched = site, watched

    @property
    def in_force(self) -> str:
        deployment = self.site.snapshot.deployment
        return "" if deployment is None else deployment.commit

    @property
    def by(self) -> str:
        """How the operator's token is named in records."""
        [key] = self.site.snapshot.api_keys
        return f"token {key}"

    async def post(self, what: str, **body: object) -> httpx.Response:
        return await self.site.operator.post(f"{GITOPS}/{what}", json=body)

    async def good(self, what: str, **body: object) -> dict[str, Any]:
        answer = await self.post(what, **body)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    async def later(self, step: timedelta) -> None:
        self.site.clock.advance(step)
        await self.watched.steering.overrides.turn(DUTY)  # type: ignore[attr-defined]


@asynccontextmanager
async def desk() -> AsyncIterator[Desk]:
    watched = Watched()
    repositories = {TailnetName("default"): watched}
    async with served(world("alice@example.com: "), repositories=repositories) as site:
        watched.bind(site)
        yield Desk(site, watched)


def condition(status: dict[str, Any], name: str) -> tuple[Any, str, str]:
    [one] = [one for one in status["conditions"] if one["name"] == name]
    return one["state"], one["reason"], one["message"]


@aio
async def test_suspend_and_resume() -> None:
    """With who and why, for good or for a while; resumed, the answer has the newest in force."""
    async with desk() as here:
        good = await here.watched.push(CLOSED)
        told = await here.good("suspend", reason="on call")
        assert told["suspended"] == {
            "reason": "on call",
            "by": here.by,
            "since": "2026-01-01T00:00:00Z",
            "until": None,
            "pinned": None,
        }
        assert condition(told, "Suspended") == (True, "Suspended", f"by {here.by}: on call")
        newest = await here.watched.push(OPEN)
        assert here.in_force == good
        resumed = await here.good("resume")
        assert (resumed["current"]["commit"], resumed["suspended"]) == (newest, None)
        assert (await here.post("resume")).status_code == 409
        told = await here.good("suspend", reason="lunch", expirySeconds=3600)
        assert told["suspended"]["until"] == "2026-01-01T01:00:00Z"
        await here.later(timedelta(hours=1))
        assert here.watched.status()["suspended"] is None


@aio
async def test_rollback_and_accept() -> None:
    """The remote is not asked, the revert is named; what was skipped comes back once accepted."""
    async with desk() as here:
        good, bad = await here.watched.push(CLOSED), await here.watched.push(OPEN)
        looks = len(here.watched.branch.looks)
        done = await here.good("rollback", commit=good, reason="too open")
        assert len(here.watched.branch.looks) == looks
        assert (done["before"]["commit"], done["after"]["commit"]) == (bad, good)
        assert done["revert"] == f"git revert --no-edit -m 1 --first-parent {good[:12]}..{bad[:12]}"
        assert condition(done["status"], "Drifted")[:2] == (True, "RolledBack")
        resumed = await here.good("resume")
        assert condition(resumed, "Applied")[:2] == (False, "Skipped")
        accepted = await here.good("accept", commit=bad)
        assert accepted["current"]["commit"] == bad
        history = (await here.site.operator.get(f"{GITOPS}/history")).json()["deployments"]
        assert [(one["commit"], one["appliedBy"], one["reason"]) for one in history] == [
            (bad, None, None),
            (good, here.by, "too open"),
            (bad, None, None),
            (good, None, None),
        ]


@aio
async def test_pin() -> None:
    """It is in force and stays; newer ones wait."""
    async with desk() as here:
        good, _ = await here.watched.push(CLOSED), await here.watched.push(OPEN)
        told = await here.good("pin", commit=good, reason="an audit")
        assert (told["current"]["commit"], told["suspended"]["pinned"]) == (good, good)
        await here.watched.push(EMERGENCY)
        assert here.in_force == good


@aio
async def test_override() -> None:
    """In force at once and for as long as it said; ended by time or on word."""
    async with desk() as here:
        good = await here.watched.push(CLOSED)
        body = {"policy": EMERGENCY, "reason": "on fire", "expirySeconds": 7200}
        told = await here.good("override", **body)
        assert told["override"] == {
            "reason": "on fire",
            "by": here.by,
            "since": "2026-01-01T00:00:00Z",
            "until": "2026-01-01T02:00:00Z",
        }
        assert condition(told, "Drifted")[:2] == (True, "Overridden")
        await here.later(timedelta(hours=2))
        assert here.in_force == good
        await here.good("override", **body)
        ended = await here.site.operator.delete(f"{GITOPS}/override")
        assert (ended.status_code, ended.json()["current"]["commit"]) == (200, good)
        assert (await here.site.operator.delete(f"{GITOPS}/override")).status_code == 409


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("suspend", {}),
        ("suspend", {"reason": ""}),
        ("suspend", {"reason": "x", "expirySeconds": -1}),
        ("rollback", {"commit": "main", "reason": "x"}),
        ("rollback", {"commit": "0" * 40}),
        ("pin", {"commit": "--all12", "reason": "x"}),
        ("pin", {"commit": "0" * 40}),
        ("accept", {"commit": "HEAD"}),
        ("override", {"policy": EMERGENCY, "reason": "x"}),
        ("override", {"policy": EMERGENCY, "expirySeconds": 60}),
        ("override", {"policy": EMERGENCY, "reason": "x", "expirySeconds": 0}),
        ("override", {"policy": EMERGENCY, "reason": "x", "expirySeconds": 604_801}),
        ("override", {"policy": '{"groops": 1}', "reason": "x", "expirySeconds": 60}),
    ],
)
def test_what_is_asked_badly_changes_nothing(what: str, body: dict[str, object]) -> None:
    """Neither without a reason or an end, nor with a name where an id belongs."""

    @aio
    async def asked() -> None:
        async with desk() as here:
            await here.watched.push(CLOSED)
            held = here.site.snapshot
            answer = await here.post(what, **body)
            assert answer.status_code == 400, answer.text
            assert here.site.snapshot.following == held.following
            assert here.site.snapshot.deployment is held.deployment

    asked()


@aio
async def test_plans_are_told_as_far_as_they_may_be() -> None:
    """Of the branch and of the history: without addresses, or without names too."""
    named = '{"hosts": {"lab": "10.9.0.0/16"}, "grants": [], "groups": {"group:x": ["zoe@b.c"]}}'
    wider = named.replace("zoe@b.c", "eve@b.c").replace(
        "[]", '[{"src": ["group:x"], "dst": ["lab"], "ip": ["1"]}]'
    )
    async with desk() as here:
        base = await here.watched.push(named)
        await here.good("suspend", reason="to look first")
        head = await here.watched.push(wider)
        ahead = {}
        for level in ("full", "names", "counts"):
            answer = await here.site.operator.get(f"{GITOPS}/plan", params={"redact": level})
            ahead[level] = answer.json()["plan"]
        await here.good("resume")
        query = {"base": base, "head": head, "redact": "counts"}
        past = (await here.site.operator.get(f"{GITOPS}/diff", params=query)).json()
        wrong = await here.site.operator.get(f"{GITOPS}/plan", params={"redact": "all"})

    assert [one["redacted"] for one in ahead.values()] == ["full", "names", "counts"]
    assert ahead["full"]["absent_gained"] == ahead["names"]["absent_gained"] == ["eve@b.c"]
    assert ahead["counts"]["absent_gained"] == past["absent_gained"] == ["1 name"]
    assert past["identity"] == {"groups": ["1 change"]}
    assert wrong.status_code == 400
