from __future__ import annotations

from datetime import timedelta

from mergescale.kernel.ids import LoginId
from mergescale.state import nodes
from mergescale.state.sshchecks import LIFE, Attempt, Waiting, ask
from support.aio import aio
from support.rest import Site, served
from support.ssh_checks import attempt, checked
from support.worlds import named, world

CHECKS = "/api/v2/tailnet/-/ssh-checks"
CHECK = "/api/v2/ssh-checks/check-1"
SHOWN = {
    "id": "check-1",
    "state": "pending",
    "user": "ana@example.com",
    "source": "laptop",
    "target": "w1",
    "localUser": "ubuntu",
    "created": "2026-01-01T00:00:00Z",
    "expires": "2026-01-01T00:30:00Z",
}


async def asked(site: Site, one: Attempt | None = None) -> LoginId:
    answer = await site.tailnets.default.apply(ask(one or attempt(site.snapshot)))
    assert isinstance(answer, Waiting)
    return answer.check.id


@aio
async def test_waiting_checks_show_who_wants_in_where() -> None:
    """A listing and a single check show the same; without a token nothing is shown."""
    async with served(checked()) as site:
        await asked(site)
        assert (await site.operator.get(CHECKS)).json() == {"checks": [SHOWN]}
        assert (await site.operator.get(CHECK)).json() == SHOWN
        assert (await site.anybody.get(CHECKS)).status_code == 401
        assert (await site.anybody.post(f"{CHECK}/approve")).status_code == 401
        assert (await site.operator.get(CHECK)).json()["state"] == "pending"


@aio
async def test_an_operator_decides_once() -> None:
    """Approving and rejecting say what became of it; the second decision is refused."""
    for verb, state, kept in (
        ("approve", "approved", "2026-01-08T00:00:00Z"),
        ("reject", "rejected", "2026-01-01T00:30:00Z"),
    ):
        async with served(checked()) as site:
            await asked(site)
            decided = await site.operator.post(f"{CHECK}/{verb}")
            shown = {**SHOWN, "state": state, "expires": kept, "decided": SHOWN["created"]}
            assert (decided.status_code, decided.json()) == (200, shown)
            assert (await site.operator.get(CHECKS)).json() == {"checks": []}
            again = await site.operator.post(f"{CHECK}/approve")
            assert (again.status_code, again.json()) == (
                409,
                {"message": f"this check was {state} already"},
            )


@aio
async def test_an_unknown_or_old_check_is_not_there() -> None:
    """The answer says how to get another one."""
    gone = {"message": "no such check, or it has expired; connect again for another address"}
    async with served(checked()) as site:
        await asked(site)
        for path in ("/api/v2/ssh-checks/other", "/api/v2/ssh-checks/other/approve"):
            method = site.operator.post if path.endswith("approve") else site.operator.get
            answer = await method(path)
            assert (answer.status_code, answer.json()) == (404, gone)
        site.clock.advance(LIFE + timedelta(seconds=1))
        assert (await site.operator.get(CHECK)).json()["state"] == "expired"
        assert (await site.operator.post(f"{CHECK}/approve")).status_code == 404


@aio
async def test_what_is_gone_has_no_name() -> None:
    """A check outlives the devices that it names."""
    async with served(checked()) as site:
        await asked(site)
        before = site.snapshot
        node = named(before, "laptop")
        await site.tailnets.default.apply(nodes.delete(node.id))
        shown = (await site.operator.get(CHECK)).json()
        assert (shown["source"], shown["target"]) == ("", "w1")


@aio
async def test_tailnets_do_not_see_one_anothers_checks() -> None:
    """An operator of one tailnet neither sees nor decides a check of another."""
    async with served(world("eve@example.com: spy", tailnet="first"), checked()) as site:
        engine = site.tailnets.named("default")
        await engine.apply(ask(attempt(engine.snapshot)))
        assert (await site.operator.get(CHECK)).status_code == 404
        assert (await site.operator.post(f"{CHECK}/approve")).status_code == 404
        assert engine.snapshot.ssh_checks[LoginId("check-1")].decided is None
