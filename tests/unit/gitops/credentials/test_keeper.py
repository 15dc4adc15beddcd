"""The credential of a repository: for one address, write-only, lent anew for every look."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from mergescale.gitops.credentials.installations import Installations
from mergescale.gitops.credentials.keeper import Keeper
from mergescale.gitops.credentials.kinds import DeployKey
from mergescale.gitops.errors import Stalled, Transient
from mergescale.gitops.git.access import Access
from mergescale.gitops.git.source import Source
from mergescale.gitops.vault import HeldDamaged
from mergescale.kernel.errors import Conflict, Invalid
from mergescale.kernel.ids import TailnetName
from mergescale.state.engine import Engine
from support.aio import aio
from support.clock import FakeClock
from support.hostkey import HOST_KEY
from support.journal import MemoryFeed, MemoryJournal
from support.vault import MemoryVault

URL, SSH = "https://git.example.com/acme/policy", "ssh://git@git.example.com/acme/policy"
CANARY = "canary-of-the-keeper"
TOKEN = {"kind": "token", "user": "deploy", "token": CANARY}
HOSTS = f"git.example.com {HOST_KEY}\n"


@dataclass(slots=True)
class World:
    """A keeper, what it keeps things in, and who hears of it."""

    keeper: Keeper
    vault: MemoryVault
    engine: Engine

    @property
    def asked(self) -> int:
        """Number of looks that were asked for."""
        return self.engine.snapshot.following.asked


@contextlib.asynccontextmanager
async def kept(
    url: str = URL, vault: MemoryVault | None = None, ca_file: str = ""
) -> AsyncIterator[World]:
    """Keep the credential of the repository at this address."""
    clock, vault, source = FakeClock(), vault or MemoryVault(), Source.parse(url)
    engine = await Engine.open(TailnetName("default"), MemoryJournal(), MemoryFeed(), clock)
    running = asyncio.create_task(engine.run())
    try:
        keeper = Keeper(engine, source, vault, Installations(clock), ca_file)
        yield World(keeper, vault, engine)
    finally:
        engine.stop()
        await running


def basic(user: str, token: str) -> str:
    """Return the header of basic authentication (RFC 7617)."""
    return f"Authorization: Basic {base64.b64encode(f'{user}:{token}'.encode()).decode()}"


@aio
async def test_a_token_is_lent_to_git_and_told_to_nobody() -> None:
    """What operators see is its kind, user name, fingerprint, address and age."""
    async with kept(ca_file="/etc/ca.pem") as here:
        assert await here.keeper.access() == Access(ca_file="/etc/ca.pem")
        assert await here.keeper.about() == {"repository": URL, "kind": None}
        about = await here.keeper.put(TOKEN, by="ana")
        assert about == await here.keeper.about()
        assert about == {
            "repository": URL,
            "kind": "token",
            "user": "deploy",
            "fingerprint": (await here.vault.held())["repository"].fingerprint,
            "created": "2026-01-01T00:00:00Z",
        }
        lent = await here.keeper.access()
        assert lent == Access(header=basic("deploy", CANARY), ca_file="/etc/ca.pem")
        assert CANARY not in f"{lent} {lent!r} {about}"
        assert base64.b64encode(CANARY.encode()).decode()[:12] not in f"{lent!r}"


@aio
async def test_whoever_changes_it_asks_for_a_look() -> None:
    """At whichever replica that is done; what is refused changes nothing."""
    async with kept() as here:
        await here.keeper.put(TOKEN, by="ana")
        assert here.asked == 1
        with pytest.raises(Invalid):
            await here.keeper.put({"kind": "token", "token": ""}, by="ana")
        assert (await here.keeper.access()).header == basic("deploy", CANARY)
        await here.keeper.put({**TOKEN, "token": "rotated"}, by="ana")
        assert (await here.keeper.access()).header == basic("deploy", "rotated")
        assert await here.keeper.drop(by="ana")
        assert (await here.keeper.access(), here.asked) == (Access(), 3)
        assert not await here.keeper.drop(by="ana")
        assert here.asked == 3


@pytest.mark.parametrize("elsewhere", ["https://git.example.com/acme/other", SSH, "/srv/policy"])
@aio
async def test_another_address_makes_it_forget(elsewhere: str) -> None:
    """Whatever the address is now: it is lent nothing, and neither is the old one afterwards."""
    vault = MemoryVault()
    async with kept(vault=vault) as here:
        await here.keeper.put(TOKEN, by="ana")
    async with kept(elsewhere, vault) as here:
        assert await here.keeper.access() == Access()
    async with kept(vault=vault) as here:
        assert (await here.keeper.about())["kind"] is None


@aio
async def test_a_path_asks_the_database_once() -> None:
    """A local repository is looked at four times a second."""
    async with kept("/srv/policy") as here:
        for _ in range(3):
            assert await here.keeper.access() == Access()
        assert here.vault.asked == [("repository", "/srv/policy")]


@aio
async def test_a_deploy_key_is_made_and_only_its_public_half_is_told() -> None:
    """Host keys have to be there, and go on to be believed when another key is made."""
    async with kept(SSH) as here:
        with pytest.raises(Conflict):
            await here.keeper.generate("", by="ana")
        first = await here.keeper.generate(HOSTS, by="ana")
        lent = await here.keeper.access()
        second = await here.keeper.generate("", by="ana")
        again = await here.keeper.access()
        assert first["publicKey"].startswith("ssh-ed25519 AAAA")
        assert first["publicKey"] != second["publicKey"]
        assert lent.key != again.key
        assert lent.known_hosts == again.known_hosts == HOSTS
        assert lent.key.splitlines()[1] not in f"{first} {lent!r} {DeployKey(lent.key, '')!r}"
        assert here.asked == 2
    async with kept() as here:
        with pytest.raises(Invalid):
            await here.keeper.generate(HOSTS, by="ana")


class Damaged(MemoryVault):
    """A vault whose secrets do not open any more."""

    async def find(self, purpose: str, bound_to: str) -> bytes | None:
        raise HeldDamaged(purpose)


@aio
async def test_what_cannot_be_read_is_said_so_and_can_be_replaced() -> None:
    """Damaged, or of another version: git is not asked without it, which would be refused."""
    other_version = MemoryVault()
    await other_version.put("repository", URL, b'{"kind":"kerberos"}')
    for vault in (Damaged(), other_version):
        async with kept(vault=vault) as here:
            with pytest.raises(Stalled) as stalled:
                await here.keeper.access()
            assert stalled.value.reason == "CredentialUnreadable"
            assert (await here.keeper.about())["kind"] == "unreadable"
    async with kept(vault=other_version) as here:
        await here.keeper.put(TOKEN, by="ana")
        assert (await here.keeper.access()).header == basic("deploy", CANARY)


@aio
async def test_a_database_that_is_away_is_waited_for() -> None:
    """Git is not asked without the credential that it may have."""
    async with kept() as here:
        here.vault.away = True
        with pytest.raises(Transient) as transient:
            await here.keeper.access()
        assert transient.value.reason == "StoreUnavailable"
