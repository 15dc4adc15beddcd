from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from mergescale.domain.record import Put
from mergescale.domain.user import Role
from mergescale.kernel.ids import UserId
from support.aio import aio
from support.clock import START
from support.rest import served
from support.worlds import named, step, world

USERS = "/api/v2/tailnet/-/users"
ALICE = {
    "id": "1",
    "displayName": "Alice",
    "loginName": "alice@example.com",
    "profilePicUrl": "",
    "tailnetId": "default",
    "created": "2026-01-01T00:00:00Z",
    "type": "member",
    "role": "member",
    "status": "active",
    "deviceCount": 2,
    "lastSeen": "2026-01-01T00:00:00Z",
    "currentlyConnected": True,
    "declared": False,
}
BOB = {
    **ALICE,
    "id": "2",
    "displayName": "Bob",
    "loginName": "bob@example.com",
    "deviceCount": 0,
    "lastSeen": "0001-01-01T00:00:00Z",
    "currentlyConnected": False,
}
PEOPLE = "alice@example.com: laptop, phone; bob@example.com: "


@aio
async def test_people_have_the_members_of_tailscales_api() -> None:
    """A listing and a single person show the same, filters narrow it."""
    async with served(world(PEOPLE)) as site:
        assert (await site.operator.get(USERS)).json() == {"users": [ALICE, BOB]}
        assert (await site.operator.get("/api/v2/users/1")).json() == ALICE
        for query, found in (
            ("role=admin", []),
            ("role=member&type=member", [ALICE, BOB]),
            ("type=shared", []),
        ):
            assert (await site.operator.get(f"{USERS}?{query}")).json() == {"users": found}


@aio
async def test_somebody_offline_was_last_seen_with_the_latest_device() -> None:
    """Of several devices the one that left last counts."""
    before = world(PEOPLE, online=False)
    laptop = replace(named(before, "laptop"), last_seen=START + timedelta(hours=1))
    phone = replace(named(before, "phone"), last_seen=START + timedelta(hours=2))
    async with served(step(before, [Put(laptop), Put(phone)])) as site:
        shown = (await site.operator.get("/api/v2/users/1")).json()
        assert (shown["lastSeen"], shown["currentlyConnected"]) == ("2026-01-01T02:00:00Z", False)


@aio
async def test_a_person_is_made_known_changed_and_removed() -> None:
    """The whole life of somebody whom no repository declares."""
    async with served(world(PEOPLE)) as site:
        body = {"loginName": "carol@example.com", "displayName": "Carol", "role": "admin"}
        made = await site.operator.post(USERS, json=body)
        assert made.status_code == 200
        assert made.json() == {
            **BOB,
            "id": "3",
            "displayName": "Carol",
            "loginName": "carol@example.com",
            "role": "admin",
        }
        carol = UserId(3)

        async def act(what: str, body: dict[str, str] | None = None) -> None:
            answer = await site.operator.post(f"/api/v2/users/3/{what}", json=body)
            assert (answer.status_code, answer.json()) == (200, {}), what

        await act("suspend")
        assert site.snapshot.users[carol].suspended is True
        assert (await site.operator.get("/api/v2/users/3")).json()["status"] == "suspended"
        await act("restore")
        assert site.snapshot.users[carol].suspended is False
        await act("role", {"role": "network-admin"})
        assert site.snapshot.users[carol].role is Role.NETWORK_ADMIN
        await act("delete")
        assert set(site.snapshot.users) == {1, 2}


@aio
async def test_what_the_domain_refuses_is_told() -> None:
    """Refusals keep their words; nothing changed."""
    async with served(world(PEOPLE)) as site:
        for path, body, status, message in (
            (
                "/api/v2/users/1/delete",
                None,
                409,
                '"alice@example.com" owns 2 nodes, "laptop" among them; delete or tag them first',
            ),
            (
                USERS,
                {"loginName": "BOB@example.com"},
                409,
                'there is a user "BOB@example.com" already',
            ),
            (
                USERS,
                {"loginName": "carol"},
                400,
                '"carol" is not a login; a login has one "@", as in `ana@example.com`',
            ),
            ("/api/v2/users/1/role", {"role": "king"}, 400, "\"role\": invalid enum value 'king'"),
        ):
            answer = await site.operator.post(path, json=body)
            assert (answer.status_code, answer.json()) == (status, {"message": message})
        assert set(site.snapshot.users) == {1, 2}


@aio
async def test_an_id_that_names_nobody_is_not_found() -> None:
    """People have decimal ids, and nothing else finds them."""
    async with served(world(PEOPLE)) as site:
        for user_id in ("3", "alice@example.com", "-1", "٣", "00000000000000000001"):
            answer = await site.operator.get(f"/api/v2/users/{user_id}")
            assert (answer.status_code, answer.json()) == (404, {"message": "no such user"})
