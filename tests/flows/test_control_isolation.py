"""Whose node a node key is: machines cannot act for each other, tailnets never meet.

Node keys are public, every peer has them; the machine key that Noise proved is the boundary
(spec 2.9).
"""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import cast
from urllib.parse import urlsplit

import pytest

from mergescale.control.app import machine_app
from mergescale.control.poll import Poller
from mergescale.control.register import Registrar
from mergescale.control.sshcheck import SshGate
from mergescale.domain.snapshot import Snapshot
from mergescale.identity.secrets import parse
from mergescale.kernel.ids import AuthKeyId
from mergescale.kernel.keys import NodeKey
from mergescale.state import authkeys, logins, nodes
from support.aio import aio, turns
from support.clock import START
from support.control_world import (
    ALICE,
    LOGOUT,
    Control,
    Device,
    Json,
    controlled,
    login_in,
    one_map,
    people,
    registered,
    rfc3339,
)
from support.worlds import key_bytes, named

pytestmark = pytest.mark.enable_socket

FOREIGN = "this node key belongs to another machine"
ELSEWHERE = "this node key belongs to another tailnet"


def names(snapshot: Snapshot) -> list[str]:
    return sorted(snapshot.names)


async def register_cases(control: Control, thief: Device, victim: Device) -> list[Json]:
    """Return every way to register, each with the victim's node key."""
    stolen: Json = {"NodeKey": str(victim.node_key())}
    url = (await thief.register(number=7))["AuthURL"]
    return [
        thief.register_request(**stolen),
        thief.register_request(auth=await control.auth_key(), **stolen),
        thief.register_request(auth=await control.auth_key(tags=("tag:web",)), **stolen),
        thief.register_request(old=0, **stolen),
        thief.register_request(Followup=url, **stolen),
        thief.register_request(Expiry=LOGOUT, **stolen),
        thief.register_request(Ephemeral=True, **stolen),
    ]


@aio
async def test_no_way_to_register_takes_another_machines_key() -> None:
    """New, by key, tagged, as a rotation, as a follow-up, as a logout: the victim notices nothing."""
    async with (
        controlled() as control,
        control.device("victim") as victim,
        control.device("thief") as thief,
    ):
        await victim.join(await control.auth_key())
        async with victim.polling() as stream:
            await stream.next()
            before = named(control.snapshot, "victim")
            for request in await register_cases(control, thief, victim):
                told = registered(await thief.post("/machine/register", request))
                assert told["Error"] == FOREIGN
            assert names(control.snapshot) == ["victim"]
            assert named(control.snapshot, "victim") == before
            assert not stream.call.ended
        assert (await victim.register())["MachineAuthorized"] is True


@pytest.mark.parametrize(
    "members",
    [
        {"Stream": True},
        {"OmitPeers": True},
        {"ReadOnly": True},
        {},
        {"Stream": True, "Version": 68},
    ],
    ids=["poll", "lite", "read", "full", "old poll"],
)
def test_no_map_request_works_with_another_machines_key(members: Json) -> None:
    """Nothing is read, nothing is changed, no stream ends; unknown and foreign look the same."""

    @aio
    async def conversation() -> None:
        async with (
            controlled() as control,
            control.device("victim") as victim,
            control.device("thief") as thief,
        ):
            await victim.join(await control.auth_key())
            await thief.join(await control.auth_key())
            async with victim.polling() as stream:
                await stream.next()
                before = named(control.snapshot, "victim")
                answers = []
                for key in (victim.node_key(), victim.node_key(9), NodeKey.zero()):
                    request = thief.map_request(
                        NodeKey=str(key), Endpoints=["192.0.2.66:1"], **members
                    )
                    answer = await thief.post("/machine/map", request)
                    answers.append((answer.status, answer.body))
                assert len(set(answers)) == 1
                status, text = answers[0]
                assert (status, bool(text)) == (400 if "Version" in members else 404, True)
                assert named(control.snapshot, "victim") == before
                assert not stream.call.ended

    conversation()


@aio
async def test_every_handler_that_takes_a_node_key_refuses_another_machines() -> None:
    """A handler that comes must come into this table too."""
    async with (
        controlled() as control,
        control.device("victim") as victim,
        control.device("thief") as thief,
    ):
        await victim.join(await control.auth_key())
        async with victim.polling() as stream:
            await stream.next()
            client = control.tailnet().hub.client(named(control.snapshot, "victim").id)
            assert client is not None
            asking = asyncio.create_task(control.c2n.ask(client, victim.machine, b"GET / \r\n"))
            while "PingRequest" not in (step := await stream.next()):
                pass
            stolen: Json = {"NodeKey": str(victim.node_key())}
            answer_to = urlsplit(step["PingRequest"]["URL"]).path
            bodies = {
                "/machine/register": ("/machine/register", thief.register_request(**stolen)),
                "/machine/map": ("/machine/map", thief.map_request(**stolen)),
                "/machine/c2n/{token:str}": (answer_to, stolen),
            }
            app = machine_app(
                cast("Registrar", None), cast("Poller", None), cast("SshGate", None), control.c2n
            )
            assert {route.path_format for route in app.routes} == {
                *(path.replace(":str", "") for path in bodies),
                "/machine/ssh/action/{source}/to/{target}",
                "/machine/set-device-attr",
            }
            before = named(control.snapshot, "victim")
            asked = f"/machine/ssh/action/{before.id}/to/{before.id}?local_user=root"
            assert (await thief.noise.get(asked)).status == 404
            told = {"Version": 130, **stolen, "Update": {"custom:tier": "gold"}}
            set_by = await thief.noise.request(
                "PATCH", "/machine/set-device-attr", json.dumps(told).encode()
            )
            assert set_by.status == 404
            for path, body in bodies.values():
                answer = await thief.post(path, body)
                assert answer.status == 404 or json.loads(answer.body)["Error"] == FOREIGN
            assert named(control.snapshot, "victim") == before
            assert not asking.done()
            assert (await victim.post(answer_to, {})).status == 204
            assert await asking == b"{}"


@aio
async def test_a_rejection_is_told_to_its_own_machine_only() -> None:
    """Another one that follows the link gets a login of its own, and learns nothing."""
    async with (
        controlled() as control,
        control.device("victim") as victim,
        control.device("thief") as thief,
    ):
        url = (await victim.register())["AuthURL"]
        await control.apply(logins.reject(login_in(url)))
        told = registered(await (await thief.following(url)).answer())
        assert (told["Error"], told["AuthURL"] not in {"", url}) == ("", True)
        assert (await victim.register(Followup=url))["Error"] == "the login was rejected"


@aio
async def test_an_expired_device_stays_out_with_its_spent_key() -> None:
    """The same node key, the next one, as a follow-up: refused or to be approved, never let in."""
    async with (
        controlled() as control,
        control.device("laptop") as laptop,
        control.device("phone") as phone,
    ):
        key = await control.auth_key()
        await laptop.join(key)
        await phone.join(await control.auth_key())
        await control.apply(nodes.expire(named(control.snapshot, "laptop").id))
        control.clock.advance(timedelta(seconds=1))
        expired = named(control.snapshot, "laptop")
        used = "the auth key was used already"
        assert (await laptop.register())["NodeKeyExpired"] is True
        assert (await laptop.register(auth=key))["Error"] == used
        assert (await laptop.register(auth=key, number=1, old=0))["Error"] == used
        url = (await laptop.register(number=1, old=0))["AuthURL"]
        again = await laptop.register(auth=key, number=1, old=0, Followup=url)
        assert (again["Error"], again["MachineAuthorized"]) == (used, False)
        assert named(control.snapshot, "laptop") == expired
        assert names(control.snapshot) == ["laptop", "phone"]
        async with laptop.polling() as own, phone.polling() as other:
            assert (await own.next())["Node"]["KeyExpiry"] == rfc3339(START)
            [peer] = (await other.next())["Peers"]
            assert peer["KeyExpiry"] == rfc3339(START)
        await control.approve(url)
        assert (await laptop.register(number=1, old=0))["MachineAuthorized"] is True
        assert named(control.snapshot, "laptop").id == expired.id


@aio
async def test_another_machines_old_key_passes_nothing_on() -> None:
    """Naming it as one's previous key makes a new node, not the victim's."""
    async with (
        controlled() as control,
        control.device("victim") as victim,
        control.device("thief") as thief,
    ):
        await victim.join(await control.auth_key())
        before = named(control.snapshot, "victim")
        await thief.join(await control.auth_key(), OldNodeKey=str(victim.node_key()))
        assert names(control.snapshot) == ["thief", "victim"]
        assert named(control.snapshot, "victim") == before
        assert named(control.snapshot, "thief").ipv4 != before.ipv4


@aio
async def test_a_link_of_another_machine_gives_a_login_of_ones_own() -> None:
    """It never gets the result, before the approval or after it."""
    async with (
        controlled() as control,
        control.device("victim") as victim,
        control.device("thief") as thief,
    ):
        url = (await victim.register())["AuthURL"]
        own = registered(await (await thief.following(url)).answer())["AuthURL"]
        assert own not in {"", url}
        await control.approve(url)
        again = registered(await (await thief.following(url)).answer())
        assert (again["MachineAuthorized"], again["AuthURL"]) == (False, own)
        assert names(control.snapshot) == ["victim"]


@aio
async def test_a_node_key_that_waits_for_approval_is_nobodys_yet() -> None:
    """Who asks first with a key does not keep its owner out."""
    async with (
        controlled() as control,
        control.device("victim") as victim,
        control.device("thief") as thief,
    ):
        await thief.register(NodeKey=str(victim.node_key()))
        await victim.join(await control.auth_key())
        refused = await thief.register(NodeKey=str(victim.node_key()))
        assert refused["Error"] == FOREIGN


@aio
async def test_one_machine_may_hold_several_nodes() -> None:
    """User switching: each node key is its own node, found by key and not by machine."""
    async with controlled() as control, control.device("laptop") as laptop:
        await laptop.join(await control.auth_key(user=ALICE))
        await laptop.join(await control.auth_key(user="bob@example.com"), number=1)
        found = [
            one_map(await laptop.post("/machine/map", laptop.map_request(number=n, ReadOnly=True)))
            for n in (0, 1)
        ]
        assert [told["Node"]["Name"].partition(".")[0] for told in found] == ["laptop", "laptop-1"]


# ------------------------------------------------------------------------------ tailnets


@aio
async def test_tailnets_with_equal_names_never_meet() -> None:
    """Same people, same device names, same addresses; each device sees its own tailnet only."""
    async with controlled(people(), people(tailnet="other")) as control:
        for tailnet in ("default", "other"):
            for name in ("laptop", "phone"):
                async with control.device(f"{name} of {tailnet}") as device:
                    host = {"Hostname": name, "OS": "linux"}
                    await device.join(await control.auth_key(tailnet=tailnet), Hostinfo=host)
        for tailnet in ("default", "other"):
            assert names(control.tailnet(tailnet).snapshot) == ["laptop", "phone"]
            async with (
                control.device(f"laptop of {tailnet}") as device,
                device.polling() as stream,
            ):
                [peer] = (await stream.next())["Peers"]
                phone = named(control.tailnet(tailnet).snapshot, "phone")
                assert (peer["StableID"], peer["Key"]) == (phone.stable_id, str(phone.node_key))


@aio
async def test_one_machine_in_two_tailnets_is_two_devices() -> None:
    """Its node keys do not lead from one to the other: not to read, to replace, or to log out."""
    async with (
        controlled(people(), people(tailnet="other")) as control,
        control.device("laptop") as laptop,
        control.device("phone") as phone,
    ):
        await laptop.join(await control.auth_key())
        await laptop.join(await control.auth_key(tailnet="other"), number=1)
        await phone.join(await control.auth_key(tailnet="other"))
        here = named(control.snapshot, "laptop")
        async with laptop.polling() as one, laptop.polling(number=1) as two:
            assert (await one.next())["Peers"] == []
            assert [peer["Name"][:5] for peer in (await two.next())["Peers"]] == ["phone"]
        key = await control.auth_key(tailnet="other")
        await laptop.join(key, number=2, old=0)
        assert named(control.snapshot, "laptop") == here
        there = named(control.tailnet("other").snapshot, "laptop")
        assert there.node_key == laptop.node_key(2)
        assert names(control.tailnet("other").snapshot) == ["laptop", "phone"]
        assert (await laptop.register(number=2, Expiry=LOGOUT))["NodeKeyExpired"] is True
        assert named(control.snapshot, "laptop") == here


@aio
async def test_an_auth_key_whose_id_two_tailnets_have_leads_to_none_but_its_own() -> None:
    """The id says where to look; without the secret of that one nobody gets in anywhere."""
    async with (
        controlled(people(), people(tailnet="other")) as control,
        control.device("laptop") as laptop,
    ):
        foreign = await control.auth_key(tailnet="other")
        twin = AuthKeyId(parse(foreign).id)
        wanted = authkeys.Wanted(user=ALICE)
        await control.apply(authkeys.create(twin, key_bytes("another secret"), wanted))
        assert (await laptop.register(auth=foreign))["MachineAuthorized"] is False
        assert [names(control.tailnet(one).snapshot) for one in ("default", "other")] == [[], []]


@aio
async def test_a_change_in_one_tailnet_is_silence_in_the_other() -> None:
    """Not even a message without content: the next one is about the own tailnet."""
    async with (
        controlled(people(), people(tailnet="other")) as control,
        control.device("laptop") as laptop,
        control.device("phone") as phone,
        control.device("tablet") as tablet,
    ):
        await laptop.join(await control.auth_key())
        async with laptop.polling() as stream:
            await stream.next()
            await phone.join(await control.auth_key(tailnet="other"))
            await turns()
            await tablet.join(await control.auth_key())
            seen: list[str] = []
            while not seen:
                step = await stream.next()
                seen = [peer["Name"].partition(".")[0] for peer in step.get("PeersChanged", [])]
            assert seen == ["tablet"]


@aio
async def test_a_node_key_lives_in_one_tailnet() -> None:
    """The other tailnet's key opens no second place for it, whoever shows it."""
    async with (
        controlled(people(), people(tailnet="other")) as control,
        control.device("laptop") as laptop,
        control.device("thief") as thief,
    ):
        await laptop.join(await control.auth_key(tailnet="other"))
        key = await control.auth_key(reusable=True)
        assert (await laptop.register(auth=key))["Error"] == ELSEWHERE
        stolen: Json = {"NodeKey": str(laptop.node_key())}
        assert (await thief.register(auth=key, **stolen))["Error"] == ELSEWHERE
        assert (await thief.register(**stolen))["Error"] == FOREIGN
        assert names(control.snapshot) == []
        assert names(control.tailnet("other").snapshot) == ["laptop"]
        assert (await laptop.register())["MachineAuthorized"] is True


@aio
async def test_a_thief_in_the_first_tailnet_keeps_nobody_out_of_the_second() -> None:
    """A login begun with a foreign node key and approved later must not hide its owner's node."""
    async with (
        controlled(people(), people(tailnet="other")) as control,
        control.device("laptop") as laptop,
        control.device("thief") as thief,
    ):
        url = (await thief.register(NodeKey=str(laptop.node_key())))["AuthURL"]
        await laptop.join(await control.auth_key(tailnet="other"))
        await control.approve(url)
        assert (await laptop.register())["MachineAuthorized"] is True
        assert (await laptop.update()).status == 200
        assert named(control.tailnet("other").snapshot, "laptop").disco_key == laptop.disco_key()


@aio
async def test_a_new_key_by_login_stays_in_its_tailnet() -> None:
    """Re-authentication without an auth key finds the tailnet by the key that it replaces."""
    async with (
        controlled(people(), people(tailnet="other")) as control,
        control.device("laptop") as laptop,
        control.device("thief") as thief,
    ):
        await laptop.join(await control.auth_key(tailnet="other"))
        before = named(control.tailnet("other").snapshot, "laptop")
        url = (await laptop.register(number=1, old=0))["AuthURL"]
        call = await laptop.following(url, number=1, old=0)
        await control.waited_at(url)
        await control.approve(url, tailnet="other")
        assert registered(await call.answer())["MachineAuthorized"] is True
        after = named(control.tailnet("other").snapshot, "laptop")
        assert (after.id, after.node_key) == (before.id, laptop.node_key(1))
        # The same words of a machine that does not own the old key lead to the default tailnet.
        await thief.register(OldNodeKey=str(laptop.node_key(1)))
        assert [len(one.snapshot.logins) for one in control.tailnets] == [1, 1]


@aio
async def test_a_link_of_another_tailnet_leads_nobody_there() -> None:
    """Whoever knows it but is not the machine that waits gets a login of the default tailnet."""
    async with (
        controlled(people(), people(tailnet="other")) as control,
        control.device("laptop") as laptop,
        control.device("thief") as thief,
    ):
        await laptop.join(await control.auth_key(tailnet="other"))
        url = (await laptop.register(number=1, old=0))["AuthURL"]
        stranger = registered(await (await thief.following(url)).answer())
        assert stranger["AuthURL"] not in {"", url}
        assert [len(one.snapshot.logins) for one in control.tailnets] == [1, 1]


@aio
async def test_a_deleted_node_may_move() -> None:
    """Once a tailnet has let a node go, its key is free for another one."""
    async with (
        controlled(people(), people(tailnet="other")) as control,
        control.device("laptop") as laptop,
    ):
        await laptop.join(await control.auth_key())
        await control.apply(nodes.delete(named(control.snapshot, "laptop").id))
        await laptop.join(await control.auth_key(tailnet="other"))
        assert names(control.tailnet("other").snapshot) == ["laptop"]


@aio
async def test_nothing_but_register_knows_a_stranger() -> None:
    """A machine that was never let in gets a login address, and else only refusals with a text."""
    async with controlled() as control, control.device("stranger") as stranger:
        assert (await stranger.register())["AuthURL"]
        body = json.dumps(stranger.map_request()).encode()
        refused = {"/machine/map": 404, "/machine/c2n/abc": 404, "/machine/whoami": 404}
        for path, status in refused.items():
            answer = await stranger.noise.post(path, body)
            assert (answer.status, bool(answer.body)) == (status, True)
