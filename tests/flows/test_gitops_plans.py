"""Plans are made in real child processes: the same plan, and no harm to the server."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mergescale.domain.record import Put
from mergescale.domain.snapshot import Snapshot
from mergescale.gitops.forges.verdicts import Judging, Tried, judged, read
from mergescale.gitops.git.messages import Found
from mergescale.gitops.planning import Comparison, compare
from mergescale.gitops.trying.containment import CRASHED, Bounds, Contained, Trials
from mergescale.gitops.trying.proving import Proving
from mergescale.plan.gates import Limits
from mergescale.plan.redaction import Redaction
from mergescale.plan.rendering import PlanRefused
from mergescale.policy.repository import declare
from mergescale.state.engine import Engine
from support.aio import aio
from support.clock import START, FakeClock
from support.journal import MemoryFeed, MemoryJournal
from support.worlds import deployment, routed, step, world

HELD = {
    "policy.hujson": json.dumps(
        {
            "groups": {"group:dev": ["ana@example.com", "ben@example.com"]},
            "tagOwners": {"tag:web": ["group:dev"]},
            "autoApprovers": {"routes": {"10.0.0.0/8": ["tag:web"]}},
            "grants": [
                {"src": ["group:dev"], "dst": ["tag:web", "10.1.0.0/16"], "ip": ["443"]},
                {"src": ["autogroup:member"], "dst": ["autogroup:self"], "ip": ["*"]},
            ],
            "ssh": [
                {
                    "action": "accept",
                    "src": ["group:dev"],
                    "dst": ["tag:web"],
                    "users": ["root"],
                }
            ],
            "tests": [{"src": "ana@example.com", "accept": ["tag:web:443"]}],
        }
    ),
    "users.hujson": '{"users": [{"login": "ana@example.com"}, {"login": "ben@example.com"}]}',
}
OTHER = {
    **HELD,
    "policy.hujson": HELD["policy.hujson"]
    .replace('"443"', '"443-450", "udp:53"')
    .replace("10.1.0.0/16", "10.1.2.0/24")
    .replace('["root"]', '["ubuntu"]'),
    "dns.hujson": '{"magicDNS": false}',
}


def tailnet() -> Snapshot:
    """Return some devices with a policy in force that was read of its texts."""
    declaration, said = declare(HELD, tested=False)
    assert declaration is not None, said
    nodes = world("ana@example.com: laptop; ben@example.com: desk, phone; tag:web: web, spare")
    nodes = routed(nodes, "web", "10.1.0.0/16", "0.0.0.0/0")
    held = replace(deployment(declaration), files=HELD)
    return step(nodes, [Put(held)])


def idle(snapshot: Snapshot) -> Engine:
    return Engine(snapshot, MemoryJournal(), MemoryFeed(), FakeClock())


@contextlib.asynccontextmanager
async def proving(folder: Path, snapshot: Snapshot, **bounds: float) -> AsyncIterator[Proving]:
    tried = Proving(idle(snapshot), Trials(folder / "git", Bounds(**bounds)))  # type: ignore[arg-type]
    try:
        yield tried
    finally:
        tried.close()


@aio
async def test_a_child_makes_the_very_plan_that_the_server_would(tmp_path: Path) -> None:
    """It is told of texts, devices, routes and who is connected; nothing else is in a plan."""
    snapshot = tailnet()
    async with proving(tmp_path, snapshot) as apart:
        here = Proving(idle(snapshot))
        for texts, verdict in (
            (Comparison(OTHER, None, START, Limits()), "mixed"),
            (Comparison(HELD, None, START, Limits()), "no effect"),
            (Comparison(HELD, OTHER, START, None), "mixed"),
        ):
            review = await compare(apart, snapshot, texts)
            assert review == await compare(here, snapshot, texts)
            assert review.plan.verdict == verdict
        found = Found("t" * 40, "s", "a", 0, True, OTHER, [])
        judging = Judging(Tried(7, "a" * 40, "b" * 40, found), START, Redaction.FULL, Limits())
        said = read(await apart.work(judging, snapshot))
        assert said == judged(judging.tried, snapshot, START, Redaction.FULL, Limits())
        assert said.verdict == "mixed"


@aio
async def test_texts_that_are_no_policy_are_told_with_their_places(tmp_path: Path) -> None:
    """As they are without a child."""
    snapshot = tailnet()
    texts = Comparison({"policy.hujson": '{"acsl": []}'}, None, START, None)
    async with proving(tmp_path, snapshot) as apart:
        with pytest.raises(PlanRefused) as refused:
            await compare(apart, snapshot, texts)
        with pytest.raises(PlanRefused) as expected:
            await compare(Proving(idle(snapshot)), snapshot, texts)
        assert refused.value.diagnostics == expected.value.diagnostics
        assert refused.value.diagnostics
        assert refused.value.texts is texts.files
        assert refused.value.message.startswith('"files" are no policy: policy.hujson:1:')


@aio
async def test_a_policy_that_compiles_and_cannot_be_planned_harms_nobody(tmp_path: Path) -> None:
    """Of thousands of destinations each lies in all the later ones: to compare them takes hours."""
    targets = [f"10.0.0.0-10.{one >> 8}.{one & 255}.9:{one + 1}" for one in range(6000)]
    bomb = json.dumps({"acls": [{"action": "accept", "src": ["ana@example.com"], "dst": targets}]})
    files = {"policy.hujson": bomb}
    snapshot = tailnet()
    async with proving(tmp_path, snapshot, wall_s=4.0) as apart:
        compiled = await apart.prepare(Found("b" * 40, "", "", 0, True, files, []), snapshot)
        assert compiled.compiled.policy is compiled.declared.policy
        with pytest.raises(PlanRefused, match="no plan is made of it, as the compiler"):
            await compare(apart, snapshot, Comparison(files, None, START, Limits()))
        found = await compare(apart, snapshot, Comparison(HELD, None, START, Limits()))
        assert found.plan.verdict == "no effect"


@aio
async def test_where_a_child_broke_is_logged(tmp_path: Path) -> None:
    """Without a word of what it worked on; to whoever asked it did not survive."""
    snapshot = tailnet()
    assert snapshot.deployment is not None
    texts = Comparison(HELD, None, START, None)
    unread = replace(snapshot.deployment, files={"policy.hujson": "{"})
    async with proving(tmp_path, snapshot) as apart:
        with capture_logs() as logs, pytest.raises(Contained) as contained:
            await apart.work(texts, replace(snapshot, deployment=unread))
        assert contained.value.reason == CRASHED
        (event,) = logs
        assert event["event"] == "gitops.child-broke"
        assert event["where"].startswith("BadCommit at inforce.py:")
        assert event["where"].endswith(" in over")
