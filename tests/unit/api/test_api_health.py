from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mergescale import __version__
from mergescale.api import health
from mergescale.api.health import Check, Checked, Health
from support.aio import aio
from support.rest import served
from support.worlds import world


def finds(checked: Checked) -> Check:
    async def check() -> Checked:
        return checked

    return check


async def breaks() -> Checked:
    raise OSError("/secret/path")


async def hangs() -> Checked:
    await asyncio.Event().wait()
    raise AssertionError


FINE, POOR = finds(Checked(Health.PASS)), finds(Checked(Health.WARN, "the commit is bad"))


@aio
async def test_health_is_that_of_the_worst_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning is still 200, a failure is 503; the sick part says why, and nothing internal."""
    monkeypatch.setattr(health, "CHECK_S", 0.01)
    well: dict[str, Any] = {"status": "pass"}
    cases: list[tuple[dict[str, Check], int, str, dict[str, Any]]] = [
        ({}, 200, "pass", {}),
        ({"store": FINE}, 200, "pass", {"store": [well]}),
        (
            {"store": FINE, "gitops": POOR},
            200,
            "warn",
            {"store": [well], "gitops": [{"status": "warn", "output": "the commit is bad"}]},
        ),
        (
            {"gitops": POOR, "store": breaks},
            503,
            "fail",
            {
                "gitops": [{"status": "warn", "output": "the commit is bad"}],
                "store": [{"status": "fail", "output": "OSError"}],
            },
        ),
        (
            {"store": hangs},
            503,
            "fail",
            {"store": [{"status": "fail", "output": "no answer within 0.01 s"}]},
        ),
    ]
    for checks, status_code, status, parts in cases:
        async with served(world("alice@example.com: "), checks=checks) as site:
            answer = await site.anybody.get("/health")
            assert answer.status_code == status_code
            assert answer.headers["content-type"] == "application/health+json"
            assert answer.json() == {"status": status, "version": __version__, "checks": parts}


@aio
async def test_anybody_may_ask_what_runs_here() -> None:
    """Version and robots need no token."""
    async with served(world("alice@example.com: ")) as site:
        assert (await site.anybody.get("/version")).json() == {
            "name": "mergescale",
            "version": __version__,
            "minimumCapabilityVersion": 106,
            "capabilityVersion": 145,
        }
        assert (await site.anybody.get("/robots.txt")).text == "User-agent: *\nDisallow: /\n"
