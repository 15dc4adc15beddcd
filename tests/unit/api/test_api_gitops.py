from __future__ import annotations

from mergescale.kernel.ids import TailnetName
from support.aio import aio
from support.rest import MemoryRepository, bearer, client, served
from support.worlds import world

STATUS = "/api/v2/tailnet/-/gitops"


@aio
async def test_the_repository_is_shown_and_looked_at() -> None:
    """A sync answers with the status after it."""
    repository = MemoryRepository()
    tailnets = world("alice@example.com: "), world("bob@example.com: ", tailnet="two")
    async with served(*tailnets, repositories={TailnetName("default"): repository}) as site:
        before = await site.operator.get(STATUS)
        assert (before.status_code, before.json()) == (200, {"branch": "main", "attempts": 0})
        synced = await site.operator.post(f"{STATUS}/sync")
        assert (synced.status_code, synced.json()) == (200, {"branch": "main", "attempts": 1})

        bob = client(site.app, headers=bearer(site.tokens["two"]))
        for method, path in (("GET", STATUS), ("POST", f"{STATUS}/sync")):
            answer = await bob.request(method, path)
            assert (answer.status_code, answer.json()) == (
                404,
                {"message": "this tailnet follows no repository; set MERGESCALE_REPOSITORY"},
            )
        assert repository.syncs == 1
