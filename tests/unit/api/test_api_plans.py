"""Plans of proposed texts over the API."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from mergescale.domain.declaration import Declaration
from mergescale.kernel.errors import Conflict
from mergescale.plan.model import decode
from support.aio import aio
from support.clock import FakeClock
from support.journal import MemoryFeed, MemoryJournal
from support.policies import policy
from support.rest import Site, served
from support.worlds import world

PLAN = "/api/v2/tailnet/-/gitops/plan"
NODES = "ana@example.com: laptop; ben@example.com: desk; tag:web: web"
HELD: dict[str, Any] = {
    "tagOwners": {"tag:web": []},
    "acls": [{"action": "accept", "src": ["ana@example.com"], "dst": ["tag:web:443"]}],
}
WIDER: dict[str, Any] = {
    **HELD,
    "acls": [{"action": "accept", "src": ["autogroup:member"], "dst": ["tag:web:443"]}],
}
IN_FORCE = Declaration(policy(json.dumps(HELD)))


def texts(*policies: Any) -> list[dict[str, str]]:
    return [{"policy.hujson": one if isinstance(one, str) else json.dumps(one)} for one in policies]


async def asked(site: Site, query: str = "", **body: Any) -> Any:
    return await site.operator.post(f"{PLAN}{query}", json=body)


@aio
async def test_texts_are_compared_with_what_is_in_force() -> None:
    """Over the tailnet's own devices; nothing of it changes."""
    async with served(world(NODES, declaration=IN_FORCE)) as site:
        (wider,) = texts(WIDER)
        before = site.tailnets.default.snapshot.deployment
        answer = await asked(site, files=wider)
        plan = decode(answer.content)

        assert answer.status_code == 200
        assert plan.verdict == "widening"
        assert [(one.src, one.dst, one.ip) for one in plan.gained] == [
            (("ben@example.com",), ("tag:web",), ("443",))
        ]
        assert [one.gate for one in plan.gates] == ["tests"]
        assert site.tailnets.default.snapshot.deployment is before


@aio
async def test_a_base_of_ones_own() -> None:
    """Then what is in force does not matter, nor whether anything is."""
    async with served(world(NODES)) as site:
        held, wider = texts(HELD, WIDER)
        there = decode((await asked(site, files=wider, base=held)).content)
        back = decode((await asked(site, files=held, base=wider)).content)
        same = decode((await asked(site, files=held, base=held)).content)
        alone = decode((await asked(site, files=wider)).content)
        nothing = decode((await asked(site, files=wider, base={})).content)

        assert (there.verdict, back.verdict, same.verdict) == ("widening", "narrowing", "no effect")
        assert there.gained == back.lost
        assert (alone, alone.verdict) == (nothing, "widening")


@pytest.mark.parametrize(
    ("form", "media_type", "begins"),
    [
        ("json", "application/json", '{\n  "version": 1'),
        ("markdown", "text/markdown; charset=utf-8", "<!-- mergescale-plan -->"),
        ("text", "text/plain; charset=utf-8", "verdict: widening"),
        ("sarif", "application/sarif+json", "{"),
        ("junit", "application/xml", "<?xml"),
        ("github", "text/plain; charset=utf-8", "::warning"),
        ("gitlab", "application/json", "["),
    ],
)
@aio
async def test_every_form(form: str, media_type: str, begins: str) -> None:
    """And each of them as much as is asked for."""
    async with served(world(NODES, declaration=IN_FORCE)) as site:
        (wider,) = texts(WIDER)
        full = await asked(site, f"?format={form}", files=wider)
        counts = await asked(site, f"?format={form}&redact=counts", files=wider)

        assert (full.status_code, full.headers["content-type"]) == (200, media_type)
        assert full.text.startswith(begins)
        assert "ben@example.com" in full.text
        assert "example.com" not in counts.text
        assert "tag:web" not in counts.text


@aio
async def test_texts_that_are_no_policy_are_told_by_place() -> None:
    """400, and every problem; which side it is stands in the message."""
    async with served(world(NODES, declaration=IN_FORCE)) as site:
        bad, held = texts('{"acls": [],\n "groops": {}}', HELD)
        refused = await asked(site, files=bad)
        base = await asked(site, files=held, base={"policy.hujson": "{"})
        counted = await asked(site, "?redact=counts", files=bad)

        assert "groops" in refused.text
        assert "groops" not in counted.text
        assert refused.status_code == 400
        problem = next(one for one in refused.json()["problems"] if one["severity"] == "error")
        assert (problem["file"], problem["line"], problem["column"]) == ("policy.hujson", 2, 2)
        assert refused.json()["message"].startswith('"files" are no policy')
        assert base.status_code == 400
        assert base.json()["message"].startswith('"base" are no policy')


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"files": []}', b'{"files": {"policy.hujson": 1}}', b"\xff"]
)
@aio
async def test_a_body_that_is_none(body: bytes) -> None:
    """400 in one sentence."""
    async with served(world(NODES, declaration=IN_FORCE)) as site:
        answer = await site.operator.post(PLAN, content=body)

        assert answer.status_code == 400
        assert set(answer.json()) == {"message"}


@aio
async def test_a_body_that_is_too_large() -> None:
    """413, before it is read whole."""
    async with served(world(NODES, declaration=IN_FORCE)) as site:
        answer = await site.operator.post(PLAN, content=b'{"files": {"x": "' + b" " * (13 << 20))

        assert answer.status_code == 413


@aio
async def test_plans_of_a_tailnet_are_made_one_at_a_time() -> None:
    """And only so many may wait."""
    from mergescale.gitops import planning
    from mergescale.gitops.planning import Planner
    from mergescale.plan.gates import Limits
    from mergescale.state.engine import Engine

    engine = Engine(world(NODES, declaration=IN_FORCE), MemoryJournal(), MemoryFeed(), FakeClock())
    planner, (wider,) = Planner(engine, FakeClock(), Limits()), texts(WIDER)
    async with asyncio.TaskGroup() as group:
        made = [group.create_task(planner.review(wider, None)) for _ in range(planning._WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(Conflict, match="too many plans"):
            await planner.review(wider, None)
    assert {one.result().plan.verdict for one in made} == {"widening"}
    assert (await planner.review(wider, None)).plan.verdict == "widening"
