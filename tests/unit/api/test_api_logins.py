from __future__ import annotations

from datetime import timedelta

from mergescale.domain.tailnet import Settings
from mergescale.identity.fingerprint import fingerprint
from mergescale.kernel.ids import LoginId
from mergescale.state.engine import Engine
from mergescale.state.registration import LoginNeeded, register
from support.access import table
from support.aio import aio
from support.machines import Machine, hostinfo
from support.rest import served
from support.worlds import named, world

PHONE = Machine("phone")
LOGINS = "/api/v2/tailnet/-/logins"
GONE = {
    "message": "no such login, or it has expired; the device shows a new address when it retries"
}


async def asked(engine: Engine, machine: Machine = PHONE, **said: object) -> LoginId:
    """Let a machine ask; return where it waits."""
    told = hostinfo(machine.name, IPNVersion="1.98.1", **said)
    answer = await engine.apply(register(machine.asks(hostinfo=told, ephemeral=True)))
    assert isinstance(answer, LoginNeeded)
    return answer.login_id


@aio
async def test_waiting_logins_show_who_asks() -> None:
    """A listing and a single login show the same, fingerprint included."""
    async with served(world("alice@example.com: ", declaration=table())) as site:
        login_id = await asked(site.tailnets.default, RequestTags=["tag:web"])
        shown = {
            "id": login_id,
            "state": "pending",
            "hostname": "phone",
            "os": "linux",
            "clientVersion": "1.98.1",
            "requestedTags": ["tag:web"],
            "fingerprint": fingerprint(PHONE.key),
            "machineKey": str(PHONE.key),
            "nodeKey": str(PHONE.node_key()),
            "isEphemeral": True,
            "created": "2026-01-01T00:00:00Z",
            "expires": "2026-01-01T01:00:00Z",
        }
        assert (await site.operator.get(LOGINS)).json() == {"logins": [shown]}
        assert (await site.operator.get(f"/api/v2/logins/{login_id}")).json() == shown


@aio
async def test_approving_makes_a_device_of_a_user() -> None:
    """The answer is the device; it needs no further approval, as an operator gave this one."""
    declaration = table(settings=Settings(device_approval=True))
    async with served(world("alice@example.com: ", declaration=declaration)) as site:
        login_id = await asked(site.tailnets.default)
        path = f"/api/v2/logins/{login_id}"
        made = await site.operator.post(f"{path}/approve", json={"user": "alice@example.com"})
        device = made.json()
        assert made.status_code == 200
        assert (device["name"], device["user"], device["authorized"]) == (
            "phone.default.tailnet.internal",
            "alice@example.com",
            True,
        )
        assert (await site.operator.get(f"/api/v2/device/{device['nodeId']}")).json() == device
        after = (await site.operator.get(path)).json()
        assert (after["state"], after["nodeId"]) == ("approved", device["nodeId"])
        assert (await site.operator.get(LOGINS)).json() == {"logins": []}
        again = await site.operator.post(f"{path}/reject")
        assert (again.status_code, again.json()) == (
            409,
            {"message": "this login was approved already"},
        )


@aio
async def test_approving_for_tags_makes_a_tagged_device() -> None:
    """Tags own the device; a user beside them, or neither, is refused."""
    async with served(
        world("alice@example.com: ", declaration=table(tags={"tag:web": []}))
    ) as site:
        path = f"/api/v2/logins/{await asked(site.tailnets.default)}/approve"
        both = {"user": "alice@example.com", "tags": ["tag:web"]}
        for body in (both, {}, {"user": "", "tags": []}, {"tags": ["tag:nope"]}):
            assert (await site.operator.post(path, json=body)).status_code == 400
        assert not site.snapshot.nodes
        made = await site.operator.post(path, json={"tags": ["tag:web"]})
        assert made.json()["tags"] == ["tag:web"]
        assert named(site.snapshot, "phone").tags == ("tag:web",)


@aio
async def test_rejecting_turns_the_device_away() -> None:
    """The login says so from then on."""
    async with served(world("alice@example.com: ", declaration=table())) as site:
        path = f"/api/v2/logins/{await asked(site.tailnets.default)}"
        rejected = await site.operator.post(f"{path}/reject")
        assert rejected.json()["state"] == "rejected"
        assert (await site.operator.get(path)).json() == rejected.json()


@aio
async def test_an_expired_or_unknown_login_cannot_be_answered() -> None:
    """Neither approval nor rejection works on what nobody waits at any more."""
    async with served(world("alice@example.com: ", declaration=table())) as site:
        path = f"/api/v2/logins/{await asked(site.tailnets.default)}"
        site.clock.advance(timedelta(hours=1))
        assert (await site.operator.get(path)).json()["state"] == "expired"
        assert (await site.operator.get(LOGINS)).json() == {"logins": []}
        for where in (path, "/api/v2/logins/unknown"):
            for what, body in (("approve", {"user": "alice@example.com"}), ("reject", None)):
                answer = await site.operator.post(f"{where}/{what}", json=body)
                assert (answer.status_code, answer.json()) == (404, GONE)
        nobody = await site.operator.get("/api/v2/logins/unknown")
        assert (nobody.status_code, nobody.json()) == (404, GONE)
