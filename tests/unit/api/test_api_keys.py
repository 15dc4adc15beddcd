from __future__ import annotations

from datetime import timedelta
from typing import Any

from mergescale.domain.snapshot import Snapshot
from support.access import table
from support.aio import aio
from support.rest import bearer, client, served
from support.worlds import world

KEYS = "/api/v2/tailnet/-/keys"
AUTH = {"keyType": "auth"}


def people() -> Snapshot:
    return world("alice@example.com: ", declaration=table(tags={"tag:web": [], "tag:db": []}))


def wanting(**create: object) -> dict[str, Any]:
    """Return a body as Go's client writes it: every member, lists as null where they are empty."""
    defaults = {"reusable": False, "ephemeral": False, "tags": None, "preauthorized": False}
    capabilities = {"devices": {"create": {**defaults, **create}}}
    return {"capabilities": capabilities, "expirySeconds": 0, "description": ""}


@aio
async def test_a_key_of_a_person_is_told_once() -> None:
    """The answer that makes a key has its text; no other answer does."""
    async with served(people()) as site:
        body = {**wanting(reusable=True, ephemeral=True), "user": "Alice@example.com"}
        made = await site.operator.post(KEYS, json={**body, "expirySeconds": 3600})
        key = made.json()
        assert made.status_code == 200
        text = key.pop("key")
        assert text.startswith(f"mskey-auth-{key['id']}-")
        assert key == {
            "id": key["id"],
            "keyType": "auth",
            "prefix": f"mskey-auth-{key['id']}",
            "description": "",
            "created": "2026-01-01T00:00:00Z",
            "updated": "2026-01-01T00:00:00Z",
            "expires": "2026-01-01T01:00:00Z",
            "expirySeconds": 3600,
            "invalid": False,
            "capabilities": {
                "devices": {
                    "create": {
                        "reusable": True,
                        "ephemeral": True,
                        "preauthorized": False,
                        "tags": [],
                    }
                }
            },
            "userId": "1",
            "user": "alice@example.com",
            "uses": 0,
        }
        one = await site.operator.get(f"{KEYS}/{key['id']}")
        assert one.json() == key
        listing = await site.operator.get(KEYS, params=AUTH)
        assert listing.json() == {"keys": [key]}
        secret = text.rpartition("-")[2]
        assert secret not in one.text + listing.text


@aio
async def test_go_clients_make_tagged_keys() -> None:
    """The body of tailscale-client-go-v2 is enough where tags own the devices; 90 days is usual."""
    async with served(people()) as site:
        made = (await site.operator.post(KEYS, json=wanting(tags=["tag:web", "tag:db"]))).json()
        assert made["capabilities"]["devices"]["create"]["tags"] == ["tag:db", "tag:web"]
        assert made["expirySeconds"] == timedelta(days=90).total_seconds()
        assert "user" not in made
        assert "userId" not in made


REFUSED: list[tuple[dict[str, Any], str]] = [
    (wanting(), "a key makes nodes of a user or of tags, so it needs one of them"),
    (
        {**wanting(tags=["tag:web"]), "user": "alice@example.com"},
        "a key makes nodes of a user or of tags, so it needs one of them",
    ),
    (
        wanting(tags=["tag:x"]),
        'tags "tag:x" are not declared; add them to `tagOwners` in the policy',
    ),
    ({"keyType": "federated"}, "\"keyType\": invalid enum value 'federated'"),
    ({"keyType": "client"}, "an OAuth client needs a scope"),
    (
        {"keyType": "client", "scopes": ["devices:core"]},
        "\"scopes[0]\": invalid enum value 'devices:core'",
    ),
    (
        {"keyType": "client", "scopes": ["all"], "tags": ["tag:web"]},
        "an OAuth client has no tags: none of the scopes here needs any",
    ),
    (
        {"keyType": "client", "scopes": ["all"], "expirySeconds": 60},
        "an OAuth client does not expire; revoke it",
    ),
    (
        {"keyType": "client", "scopes": ["all"], **wanting(reusable=True)},
        "an OAuth client has no capabilities and no user",
    ),
    ({"expirySeconds": -1}, '"expirySeconds": expected `int` >= 0'),
    ({"expirySeconds": 10**12}, '"expirySeconds": expected `int` <= 31622400'),
    (
        {"keyType": "api", "user": "alice@example.com"},
        "an API token has no capabilities and no user",
    ),
    (
        {"keyType": "api", **wanting(reusable=True)},
        "an API token has no capabilities and no user",
    ),
]


@aio
async def test_a_key_that_cannot_be_is_refused() -> None:
    """The reason is told and no key is made."""
    async with served(people()) as site:
        before = site.snapshot.auth_keys, len(site.snapshot.api_keys)
        for body, message in REFUSED:
            answer = await site.operator.post(KEYS, json=body)
            assert (answer.status_code, answer.json()) == (400, {"message": message})
        assert (site.snapshot.auth_keys, len(site.snapshot.api_keys)) == before


@aio
async def test_a_revoked_key_is_invalid_and_leaves_the_listing() -> None:
    """Revoking keeps the key for ``all=true`` and for whoever asks by its id."""
    async with served(people()) as site:
        made = (await site.operator.post(KEYS, json=wanting(tags=["tag:web"]))).json()
        path = f"{KEYS}/{made['id']}"
        gone = await site.operator.delete(path)
        assert (gone.status_code, gone.json()) == (200, {})
        after = (await site.operator.get(path)).json()
        assert (after["invalid"], after["revoked"]) == (True, "2026-01-01T00:00:00Z")
        assert (await site.operator.get(KEYS, params=AUTH)).json() == {"keys": []}
        kept = await site.operator.get(KEYS, params={**AUTH, "all": "true"})
        assert kept.json() == {"keys": [after]}


@aio
async def test_an_api_token_opens_the_api_until_it_is_revoked() -> None:
    """A token made here works at once, is listed by its prefix, and can revoke itself."""
    async with served(people()) as site:
        body = {**wanting(), "keyType": "api", "description": "ci"}
        made = (await site.operator.post(KEYS, json=body)).json()
        assert made["key"].startswith(f"mskey-api-{made['id']}-")
        assert (made["keyType"], made["description"]) == ("api", "ci")
        assert "capabilities" not in made
        own = client(site.app, headers=bearer(made["key"]))
        listing = (await own.get(KEYS, params={"keyType": "api"})).json()
        assert [one["description"] for one in listing["keys"]] == ["operator", "ci"]
        assert (await own.delete(f"{KEYS}/{made['id']}")).status_code == 200
        assert (await own.get(KEYS)).status_code == 401


@aio
async def test_an_expired_api_token_opens_nothing() -> None:
    """The second it expires is the first at which it is refused."""
    async with served(people()) as site:
        body = {"keyType": "api", "expirySeconds": 60}
        made = (await site.operator.post(KEYS, json=body)).json()
        own = client(site.app, headers=bearer(made["key"]))
        site.clock.advance(timedelta(seconds=59))
        assert (await own.get(KEYS)).status_code == 200
        site.clock.advance(timedelta(seconds=1))
        assert (await own.get(KEYS)).status_code == 401


@aio
async def test_an_unknown_key_is_not_found() -> None:
    """Neither kind has it."""
    async with served(people()) as site:
        for method in ("GET", "DELETE"):
            answer = await site.operator.request(method, f"{KEYS}/nothing")
            assert (answer.status_code, answer.json()) == (404, {"message": "no such key"})
