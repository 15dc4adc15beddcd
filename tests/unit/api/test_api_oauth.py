from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest

from mergescale.kernel.ids import ApiKeyId
from mergescale.state.throttle import API_TOKEN
from support.aio import aio
from support.rest import MemoryRepository, Site, basic, bearer, client, served
from support.worlds import world

TOKEN = "/api/v2/oauth/token"
KEYS = "/api/v2/tailnet/-/keys"
ACL = "/api/v2/tailnet/-/acl"
UNKNOWN = {
    "error": "invalid_client",
    "error_description": "the client is not known or its secret is wrong",
}


async def made(site: Site, *scopes: str) -> dict[str, Any]:
    """Make a client as tailscale-client-go-v2 does."""
    body = {"keyType": "client", "scopes": list(scopes), "tags": None, "description": "ci"}
    answer = await site.operator.post(KEYS, json=body)
    assert answer.status_code == 200, answer.text
    key: dict[str, Any] = answer.json()
    return key


async def token_of(site: Site, key: dict[str, Any], **form: str) -> httpx.Response:
    shown = {"client_id": key["id"], "client_secret": key["key"]}
    return await site.anybody.post(TOKEN, data={**shown, **form})


async def let_in(site: Site, *scopes: str) -> httpx.AsyncClient:
    """Return a caller with a token of a new client."""
    answer = await token_of(site, await made(site, *scopes))
    return client(site.app, headers=bearer(answer.json()["access_token"]))


@aio
async def test_a_client_is_told_once() -> None:
    """The answer that makes it has its secret; listings have its scopes."""
    async with served(world("")) as site:
        key = await made(site, "policy_file", "all:read", "policy_file")
        secret = key.pop("key")
        assert secret.startswith(f"mskey-client-{key['id']}-")
        assert key == {
            "id": key["id"],
            "keyType": "client",
            "prefix": f"mskey-client-{key['id']}",
            "description": "ci",
            "created": "2026-01-01T00:00:00Z",
            "updated": "2026-01-01T00:00:00Z",
            "invalid": False,
            "scopes": ["all:read", "policy_file"],
        }
        one = await site.operator.get(f"{KEYS}/{key['id']}")
        assert one.json() == key
        listing = await site.operator.get(KEYS, params={"keyType": "client"})
        assert listing.json() == {"keys": [key]}
        tokens = (await site.operator.get(KEYS, params={"keyType": "api"})).json()["keys"]
        assert [one["description"] for one in tokens] == ["operator"]
        stored = site.snapshot.api_keys[ApiKeyId(key["id"])]
        assert secret.rpartition("-")[2].encode() not in stored.secret_hash
        assert secret.rpartition("-")[2] not in one.text + listing.text + repr(stored)


@pytest.mark.parametrize("how", ["basic", "form", "tailscale-docs"])
@aio
async def test_a_client_gets_a_token_for_an_hour(how: str) -> None:
    """By basic authentication, in the form, and without the grant type as in Tailscale's docs."""
    async with served(world("")) as site:
        key = await made(site, "policy_file:read")
        form = {"client_id": key["id"], "client_secret": key["key"]}
        grant = {"grant_type": "client_credentials"}
        match how:
            case "basic":
                headers = basic(key["id"], key["key"])
                answer = await site.anybody.post(TOKEN, data=grant, headers=headers)
            case "form":
                answer = await site.anybody.post(TOKEN, data={**grant, **form})
            case _:
                answer = await site.anybody.post(TOKEN, data=form)
        told = answer.json()
        text = told.pop("access_token")
        assert (answer.status_code, told) == (
            200,
            {"token_type": "Bearer", "expires_in": 3600, "scope": "policy_file:read"},
        )
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["pragma"] == "no-cache"
        own = client(site.app, headers=bearer(text))
        assert (await own.get(ACL)).status_code == 200
        site.clock.advance(timedelta(minutes=59, seconds=59))
        assert (await own.get(ACL)).status_code == 200
        site.clock.advance(timedelta(seconds=1))
        assert (await own.get(ACL)).status_code == 401


@aio
async def test_a_token_may_be_for_less_than_its_client() -> None:
    """What is asked for is what the token has; more than the client has is refused."""
    async with served(world(""), by_api=True) as site:
        key = await made(site, "policy_file")
        narrow = await token_of(site, key, scope="policy_file:read")
        assert narrow.json()["scope"] == "policy_file:read"
        own = client(site.app, headers=bearer(narrow.json()["access_token"]))
        assert (await own.get(ACL)).status_code == 200
        assert (await own.post(ACL, content='{"acls": []}')).status_code == 403
        for more in ("all", "policy_file all:read", "devices:core"):
            answer = await token_of(site, key, scope=more)
            assert (answer.status_code, answer.json()) == (
                400,
                {"error": "invalid_scope", "error_description": "the client has no such scope"},
            )


@aio
async def test_whoever_is_no_client_gets_no_token() -> None:
    """Nobody learns what was wrong; a revoked client is none, and its tokens end with it."""
    async with served(world("")) as site:
        key = await made(site, "all")
        text = (await token_of(site, key)).json()["access_token"]
        secret = key["key"]
        wrong = secret[:-1] + ("2" if secret[-1] == "1" else "1")
        api = site.tokens["default"]
        shown: list[tuple[str, str]] = [
            (key["id"], wrong),
            ("x" * 12, secret),
            (key["id"], ""),
            ("", "mskey-client"),
            (key["id"], secret.replace("-client-", "-api-")),
            (api.split("-")[2], api),
            (api.split("-")[2], api.replace("-api-", "-client-")),
        ]
        for client_id, said in shown:
            form = {"client_id": client_id, "client_secret": said}
            answer = await site.anybody.post(TOKEN, data=form)
            assert (answer.status_code, answer.json()) == (401, UNKNOWN), client_id
            assert answer.headers["www-authenticate"] == 'Basic realm="mergescale"'
            answer = await site.anybody.post(TOKEN, headers=basic(client_id, said))
            assert (answer.status_code, answer.json()) == (401, UNKNOWN), client_id
        for header in ("Bearer x", "Basic !", "Basic", bearer(api)["authorization"]):
            answer = await site.anybody.post(TOKEN, headers={"authorization": header})
            assert (answer.status_code, answer.json()) == (401, UNKNOWN)
        assert (await site.operator.delete(f"{KEYS}/{key['id']}")).status_code == 200
        assert (await token_of(site, key)).json() == UNKNOWN
        own = client(site.app, headers=bearer(text))
        assert (await own.get(ACL)).status_code == 401


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"grant_type=password", "unsupported_grant_type"),
        (b"client_id=a&client_id=b", "invalid_request"),
        (b"client_id=%ff", "invalid_request"),
        (b"client_id=\xff", "invalid_request"),
        (b"&".join(b"%d=x" % n for n in range(30)), "invalid_request"),
        (b"", "invalid_client"),
        (b"{}", "invalid_client"),
    ],
)
@aio
async def test_what_is_no_request_is_told_in_the_words_of_oauth(body: bytes, error: str) -> None:
    async with served(world("")) as site:
        answer = await site.anybody.post(TOKEN, content=body)
        assert answer.status_code == (401 if error == "invalid_client" else 400)
        assert answer.json()["error"] == error
        assert (await site.anybody.post(TOKEN, content=b"x" * 9000)).status_code == 413
        assert (await site.anybody.get(TOKEN)).status_code == 405


@aio
async def test_each_endpoint_asks_for_its_scope() -> None:
    """What says nothing of scopes needs `all`, and to look at it `all:read`."""
    opens = {
        "all": {"read", "try", "set", "look", "devices", "keys"},
        "all:read": {"read", "try", "look", "devices"},
        "policy_file": {"read", "try", "set", "look"},
        "policy_file:read": {"read", "try", "look"},
    }
    policy = '{"acls": []}'
    asked: dict[str, tuple[str, str, Any]] = {
        "read": ("GET", ACL, None),
        "try": ("POST", f"{ACL}/validate", policy),
        "set": ("POST", ACL, policy),
        "look": ("GET", "/api/v2/tailnet/-/settings", None),
        "devices": ("GET", "/api/v2/tailnet/-/devices", None),
        "keys": ("POST", KEYS, '{"keyType": "api"}'),
    }
    async with served(world(""), by_api=True) as site:
        for scope, allowed in opens.items():
            caller = await let_in(site, scope)
            for name, (method, path, body) in asked.items():
                answer = await caller.request(method, path, content=body)
                assert answer.status_code == (200 if name in allowed else 403), (scope, name)
                if name not in allowed:
                    assert answer.json()["message"].startswith("this needs the scope `")


@aio
async def test_the_repository_is_looked_at_with_the_policy_s_scope() -> None:
    """A sync asks for the right to change, its status for the right to look."""
    repository = MemoryRepository()
    name = world("").tailnet
    async with served(world(""), repositories={name: repository}) as site:
        reader = await let_in(site, "policy_file:read")
        path = "/api/v2/tailnet/-/gitops"
        assert (await reader.get(path)).status_code == 200
        assert (await reader.post(f"{path}/sync")).status_code == 403
        assert repository.syncs == 0
        writer = await let_in(site, "policy_file")
        assert (await writer.post(f"{path}/sync")).status_code == 200


@aio
async def test_who_may_write_the_policy_file_does_not_get_round_the_repository() -> None:
    """CI's token neither approves nor overrides; it sets no secret that others rely on either."""
    name = world("").tailnet
    acts = [
        ("POST", "approve"), ("POST", "accept"), ("POST", "pin"), ("POST", "rollback"),
        ("POST", "suspend"), ("POST", "resume"), ("POST", "override"), ("DELETE", "override"),
        ("POST", "webhooks"), ("DELETE", "webhooks/x"), ("PUT", "forge/token"),
        ("DELETE", "forge/token"), ("POST", "notify/x/test"), ("POST", "notify/x/secret"),
        ("PUT", "credential"), ("DELETE", "credential"),
    ]  # fmt: skip
    async with served(world(""), repositories={name: MemoryRepository()}) as site:
        writer = await let_in(site, "policy_file")
        for method, act in acts:
            answer = await writer.request(method, f"/api/v2/tailnet/-/gitops/{act}", json={})
            said = answer.status_code, answer.json().get("message")
            assert said == (403, "this needs the scope `all`"), act


@aio
async def test_a_client_opens_its_own_tailnet_only() -> None:
    """Its token finds its tailnet by itself, and no other."""
    async with served(world(""), world("", tailnet="two")) as site:
        two = client(site.app, headers=bearer(site.tokens["two"]))
        body = {"keyType": "client", "scopes": ["all"]}
        key = (await two.post(KEYS, json=body)).json()
        text = (await token_of(site, key)).json()["access_token"]
        own = client(site.app, headers=bearer(text))
        assert (await own.get("/api/v2/tailnet/two/keys")).status_code == 200
        assert (await own.get("/api/v2/tailnet/default/keys")).status_code == 404
        listed = (await own.get(KEYS, params={"keyType": "client"})).json()["keys"]
        assert [one["id"] for one in listed] == [key["id"]]
        assert "lastUsed" in listed[0]


@aio
async def test_guessing_of_secrets_is_slowed_down() -> None:
    """Failures count as those of API tokens do; then even the right secret has to wait."""
    async with served(world(""), throttled=True) as site:
        key = await made(site, "all")
        for _ in range(API_TOKEN.burst):
            answer = await site.anybody.post(TOKEN, data={"client_secret": "x"})
            assert answer.status_code == 401
        answer = await token_of(site, key)
        assert (answer.status_code, "retry-after" in answer.headers) == (429, True)
