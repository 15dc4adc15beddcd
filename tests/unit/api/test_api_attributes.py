"""Posture attributes over the API, in the shapes of Tailscale's."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mergescale.domain.declaration import Declaration
from mergescale.domain.posture import CustomAttribute
from support.aio import aio
from support.clock import START
from support.policies import policy
from support.rest import Site, served
from support.worlds import named, world

POLICY = '{"acls": [], "attrConfig": {"custom:score": {"type": "number"}}}'
WORLD = world("alice@example.com: laptop", declaration=Declaration(policy(POLICY)))
OWN = "/api/v2/device/n1CNTRL/attributes"
NODE = {"node:os": "linux", "node:tsAutoUpdate": False}
LATER = START + timedelta(hours=1)


def stored(site: Site) -> tuple[CustomAttribute, ...]:
    return named(site.snapshot, "laptop").custom


@aio
async def test_attributes_are_set_shown_and_deleted() -> None:
    """Values come back as they came, whole numbers without a point; each under its own path."""
    async with served(WORLD) as site:
        assert (await site.operator.get(OWN)).json() == {"attributes": NODE, "expiries": {}}

        said = {"value": 80, "expiry": "2026-01-01T02:00:00+01:00", "comment": "measured"}
        answer = await site.operator.post(f"{OWN}/custom:score", json=said)
        shown = {
            "attributes": {**NODE, "custom:score": 80},
            "expiries": {"custom:score": "2026-01-01T01:00:00Z"},
        }
        assert (answer.status_code, answer.json()) == (200, shown)
        assert stored(site) == (CustomAttribute("custom:score", 80.0, LATER),)
        assert isinstance((await site.operator.get(OWN)).json()["attributes"]["custom:score"], int)

        answer = await site.operator.delete(f"{OWN}/custom:score")
        assert (answer.status_code, stored(site)) == (200, ())
        assert (await site.operator.delete(f"{OWN}/custom:score")).status_code == 404


@pytest.mark.parametrize("expiry", [None, "0001-01-01T00:00:00Z"])
def test_null_and_gos_zero_time_are_never(expiry: str | None) -> None:
    """Tailscale's own client library sends its zero time where it means none."""

    @aio
    async def test() -> None:
        async with served(WORLD) as site:
            said = {"value": True, "expiry": expiry}
            answer = await site.operator.post(f"{OWN}/custom:a", json=said)
            assert answer.status_code == 200
            assert stored(site) == (CustomAttribute("custom:a", True),)

    test()


@pytest.mark.parametrize(
    ("name", "said", "status"),
    [
        ("node:os", {"value": "x"}, 400),
        ("custom:score", {"value": "high"}, 400),
        ("custom:a", {"value": 1.5}, 400),
        ("custom:a", {"value": [1]}, 400),
        ("custom:a", {}, 400),
        ("custom:a", {"value": 1, "expiry": "2025-01-01T00:00:00Z"}, 400),
        ("custom:a", {"value": 1, "expiry": "2027-01-01T00:00:00"}, 400),
        ("custom:a", {"value": 1, "comment": "x" * 201}, 400),
    ],
)
def test_what_is_no_attribute_is_refused(name: str, said: object, status: int) -> None:
    """With a problem, and nothing changed."""

    @aio
    async def test() -> None:
        async with served(WORLD) as site:
            answer = await site.operator.post(f"{OWN}/{name}", json=said)
            assert (answer.status_code, stored(site)) == (status, ())
            assert answer.json()["message"]

    test()


@aio
async def test_names_that_differ_in_case_only_are_a_conflict() -> None:
    """The second one is refused."""
    async with served(WORLD) as site:
        await site.operator.post(f"{OWN}/custom:tier", json={"value": "x"})
        answer = await site.operator.post(f"{OWN}/custom:Tier", json={"value": "x"})
        assert (answer.status_code, len(stored(site))) == (409, 1)


@aio
async def test_devices_of_others_and_callers_without_a_token_get_nothing() -> None:
    """Unknown devices are not found; nobody without a token reads or writes."""
    async with served(WORLD) as site:
        assert (await site.operator.get("/api/v2/device/9/attributes")).status_code == 404
        assert (await site.anybody.get(OWN)).status_code == 401
        answer = await site.anybody.post(f"{OWN}/custom:a", json={"value": 1})
        assert (answer.status_code, stored(site)) == (401, ())
