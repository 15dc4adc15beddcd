"""From an operator's request to a device, by both ways in."""

from __future__ import annotations

from datetime import timedelta

from mergescale.identity.secrets import parse
from mergescale.kernel.ids import AuthKeyId
from mergescale.state.registration import (
    LoginNeeded,
    Refused,
    Registered,
    Request,
    ShownKey,
    register,
)
from support.access import table
from support.aio import aio
from support.machines import Machine
from support.rest import Site, served
from support.worlds import world

KEYS = "/api/v2/tailnet/-/keys"
PEOPLE = "alice@example.com: ; bob@example.com: "


def showing(machine: Machine, text: str) -> Request:
    """Return a register request with a pre-auth key."""
    shown = parse(text)
    plain = machine.asks()
    return Request(
        machine_key=plain.machine_key,
        node_key=plain.node_key,
        hostinfo=plain.hostinfo,
        fresh=plain.fresh,
        capability_version=plain.capability_version,
        auth=ShownKey(AuthKeyId(shown.id), shown.secret_hash),
    )


async def join(site: Site, machine: Machine, text: str) -> object:
    return await site.tailnets.default.apply(register(showing(machine, text)))


@aio
async def test_a_key_from_the_api_admits_one_device() -> None:
    """Its use is counted, it admits no second one, and revoking it leaves the device."""
    async with served(world(PEOPLE, declaration=table())) as site:
        made = (await site.operator.post(KEYS, json={"user": "alice@example.com"})).json()
        site.clock.advance(timedelta(minutes=1))
        assert isinstance(await join(site, Machine("laptop"), made["key"]), Registered)
        used = (await site.operator.get(f"{KEYS}/{made['id']}")).json()
        assert (used["uses"], used["lastUsed"]) == (1, "2026-01-01T00:01:00Z")
        assert used["invalid"] is True
        assert isinstance(await join(site, Machine("phone"), made["key"]), Refused)

        listing = (await site.operator.get("/api/v2/tailnet/-/devices")).json()["devices"]
        assert [(one["hostname"], one["user"]) for one in listing] == [
            ("laptop", "alice@example.com")
        ]
        await site.operator.delete(f"{KEYS}/{made['id']}")
        assert len(site.snapshot.nodes) == 1


@aio
async def test_a_revoked_key_admits_nobody() -> None:
    """Not even though it is reusable and was good a moment ago."""
    async with served(world(PEOPLE, declaration=table())) as site:
        create = {"reusable": True, "ephemeral": True}
        body = {"user": "bob@example.com", "capabilities": {"devices": {"create": create}}}
        made = (await site.operator.post(KEYS, json=body)).json()
        assert isinstance(await join(site, Machine("one"), made["key"]), Registered)
        await site.operator.delete(f"{KEYS}/{made['id']}")
        assert isinstance(await join(site, Machine("two"), made["key"]), Refused)
        [node] = site.snapshot.nodes.values()
        assert (node.name, node.ephemeral) == ("one", True)


@aio
async def test_a_device_waits_until_an_operator_approves() -> None:
    """The page, the API and the device tell the same story from first to last."""
    async with served(world(PEOPLE, declaration=table())) as site:
        engine, phone = site.tailnets.default, Machine("phone")
        waiting = await engine.apply(register(phone.asks()))
        assert isinstance(waiting, LoginNeeded)
        page = f"/register/{waiting.login_id}"
        assert 'data-state="pending"' in (await site.anybody.get(page)).text

        [login] = (await site.local.get("/api/v2/tailnet/-/logins")).json()["logins"]
        assert login["id"] == waiting.login_id
        assert login["fingerprint"] in (await site.anybody.get(page)).text
        path = f"/api/v2/logins/{login['id']}/approve"
        made = (await site.local.post(path, json={"user": "bob@example.com"})).json()

        assert 'data-state="approved"' in (await site.anybody.get(page)).text
        back = await engine.apply(register(phone.asks(followup=waiting.login_id)))
        assert isinstance(back, Registered)
        assert (back.node.stable_id, made["user"]) == (made["nodeId"], "bob@example.com")
