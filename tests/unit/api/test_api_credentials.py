"""The credential over the API: goes in for administrators, comes out for nobody."""

from __future__ import annotations

from typing import Any

import pytest

from mergescale.domain.scopes import Scope
from mergescale.gitops.credentials.installations import Installations
from mergescale.gitops.credentials.keeper import Keeper
from mergescale.gitops.git.source import Source
from mergescale.kernel.ids import TailnetName
from support.aio import aio
from support.hostkey import FINGERPRINT, HOST_KEY
from support.rest import MemoryRepository, Site, bearer, client, served
from support.vault import MemoryVault
from support.worlds import world

PATH = "/api/v2/tailnet/-/gitops/credential"
URL = "ssh://git@git.example.com/acme/policy"
CANARY = "canary-of-the-api"
TOKEN = {"kind": "token", "user": "deploy", "token": CANARY}


async def with_keeper(site: Site, repository: MemoryRepository, url: str) -> MemoryVault:
    """Give the repository a keeper of its own; return what that keeps things in."""
    source, vault = Source.parse(url), MemoryVault()
    engine = site.tailnets.default
    repository._credential = Keeper(engine, source, vault, Installations(site.clock))
    return vault


@aio
async def test_a_token_goes_in_is_described_and_dropped() -> None:
    """No answer holds it."""
    repository = MemoryRepository()
    async with served(
        world("ana@example.com: "), repositories={TailnetName("default"): repository}
    ) as site:
        await with_keeper(site, repository, "https://git.example.com/acme/policy")
        answers = [
            await site.operator.get(PATH),
            await site.operator.put(PATH, json=TOKEN),
            await site.operator.get(PATH),
            await site.operator.delete(PATH),
            await site.operator.delete(PATH),
        ]
    told = answers[1].json()
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 404]
    assert [answer.json() for answer in answers] == [
        {"repository": "https://git.example.com/acme/policy", "kind": None},
        told,
        told,
        {},
        {"message": "this repository has no credential"},
    ]
    assert set(told) == {"repository", "kind", "user", "fingerprint", "created"}
    assert not any(CANARY in answer.text for answer in answers)


@aio
async def test_a_deploy_key_is_made_by_the_server() -> None:
    """The answer has its public half and the fingerprints of the host keys."""
    repository = MemoryRepository()
    async with served(
        world("ana@example.com: "), repositories={TailnetName("default"): repository}
    ) as site:
        vault = await with_keeper(site, repository, URL)
        refused = await site.operator.post(f"{PATH}/deploy-key", json={})
        assert refused.status_code == 409
        body = {"knownHosts": f"git.example.com {HOST_KEY}"}
        made = await site.operator.post(f"{PATH}/deploy-key", json=body)
        assert made.status_code == 200
        assert made.json()["publicKey"].startswith("ssh-ed25519 ")
        assert made.json()["hostKeys"] == [f"git.example.com ssh-ed25519 {FINGERPRINT}"]
        assert vault.kept["repository"][0] == URL
        assert "PRIVATE" not in made.text


@pytest.mark.parametrize(
    "body",
    [
        {"kind": CANARY},
        {"kind": "token", "token": 5},
        {"kind": "token", "token": f"{CANARY} {CANARY}"},
        {"kind": "token", "token": CANARY * 1000},
        {"kind": "ssh", "privateKey": CANARY, "knownHosts": CANARY},
        {"kind": "ssh", "privateKey": [CANARY]},
        {"kind": "github-app", "appId": CANARY},
        [CANARY],
        CANARY,
    ],
)
@aio
async def test_what_is_refused_is_not_repeated(body: Any) -> None:
    """Neither by the decoder nor by us; what was kept before stays."""
    repository = MemoryRepository()
    async with served(
        world("ana@example.com: "), repositories={TailnetName("default"): repository}
    ) as site:
        vault = await with_keeper(site, repository, "https://git.example.com/acme/policy")
        answer = await site.operator.put(PATH, json=body)
        assert (answer.status_code, vault.kept) == (400, {})
        assert CANARY not in answer.text


@aio
async def test_only_administrators_touch_it() -> None:
    """Not who may change the policy: they could have it shown to a host of theirs."""
    repository = MemoryRepository()
    async with served(
        world("ana@example.com: "), repositories={TailnetName("default"): repository}
    ) as site:
        await with_keeper(site, repository, "https://git.example.com/acme/policy")
        calls: list[tuple[str, str, Any]] = [
            ("GET", PATH, None),
            ("PUT", PATH, TOKEN),
            ("DELETE", PATH, None),
            ("POST", f"{PATH}/deploy-key", {}),
        ]
        may = {}
        for scope in Scope:
            token = await limited(site, scope)
            caller = client(site.app, headers=bearer(token))
            answers = [await caller.request(m, path, json=body) for m, path, body in calls]
            may[scope] = [answer.status_code != 403 for answer in answers]
        answers = [await site.anybody.request(m, path, json=body) for m, path, body in calls]
        assert [answer.status_code for answer in answers] == [401] * 4
    assert may == {
        Scope.ALL: [True] * 4,
        Scope.ALL_READ: [True, False, False, False],
        Scope.POLICY: [False] * 4,
        Scope.POLICY_READ: [False] * 4,
    }


async def limited(site: Site, scope: Scope) -> str:
    """Return an access token for one scope."""
    made = await site.operator.post(
        "/api/v2/tailnet/-/keys", json={"keyType": "client", "scopes": [scope]}
    )
    form = {"client_id": made.json()["id"], "client_secret": made.json()["key"]}
    token = await site.anybody.post("/api/v2/oauth/token", data=form)
    return str(token.json()["access_token"])
