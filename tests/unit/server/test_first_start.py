from __future__ import annotations

import asyncio
from pathlib import Path

from mergescale.domain.apikey import ApiKey
from mergescale.domain.record import Put
from mergescale.kernel.ids import ApiKeyId
from mergescale.server.first_start import ensure_administrator, greeting
from mergescale.server.settings import Repository, Settings
from mergescale.state.engine import Engine
from support.aio import aio
from support.clock import START, FakeClock, FakeEntropy
from support.journal import MemoryFeed, MemoryJournal
from support.worlds import step, world


@aio
async def test_an_oauth_client_is_no_administrator(tmp_path: Path) -> None:
    """A tailnet that has clients only gets an administrator token, and one that has a token none."""
    client = ApiKey(ApiKeyId("c"), bytes(32), "ci", START, client_scopes=("all",))
    engine = Engine(step(world(""), [Put(client)]), MemoryJournal(), MemoryFeed(), FakeClock())
    settings = Settings(state_dir=tmp_path)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(engine.run())
        made = [await ensure_administrator(engine, settings, FakeEntropy("a")) for _ in range(2)]
        engine.stop()
    assert made == [True, False]
    assert settings.admin_token_file.read_text("ascii").startswith("mskey-api-")
    assert [key.is_client for key in engine.snapshot.api_keys.values()] == [True, False]


def test_the_greeting_says_where_the_policy_comes_from(tmp_path: Path) -> None:
    """From a repository, over the API where that is allowed, or from nowhere yet."""
    watched = greeting(Settings(repository="/srv/policy", policy_by_api=True), "u", first=False)
    assert watched == "Mergescale serves u\nWatched repositories:\n  default    /srv/policy (main)"
    by_api = greeting(Settings(policy_by_api=True), "u", first=False)
    assert by_api.endswith("set with POST /api/v2/tailnet/-/acl, as gitops-pusher does.")
    assert "nobody reaches anybody" in greeting(Settings(), "u", first=False)


def test_a_tailnet_without_a_url_follows_no_repository() -> None:
    """So that one server holds tailnets of both kinds."""
    git = Repository(url="/srv/policy")
    settings = Settings(tailnets={"corp": git, "lab": Repository()}, policy_by_api=True)
    assert settings.repositories == {"corp": git, "lab": None}
