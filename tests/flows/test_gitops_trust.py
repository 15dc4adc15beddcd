"""Signed commits from a real repository through the worker into an engine, and a whole server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mergescale.gitops.git.child import Fetcher
from mergescale.gitops.git.source import Source
from mergescale.gitops.git.trials import Trials
from mergescale.gitops.reconcile import Reconciler
from mergescale.gitops.status import ConditionName, Status
from mergescale.gitops.trust.demands import Demands, Signatures, Untrusted
from mergescale.kernel.ids import TailnetName
from mergescale.state import following as wishes
from mergescale.state.engine import Engine
from support.aio import aio
from support.clock import FakeClock
from support.command_line import CommandLine
from support.journal import MemoryFeed, MemoryJournal
from support.real_clients import eventually
from support.repositories import Repository
from support.server_process import ServerProcess, serving
from support.signing import GpgHome, SshKey, sign

GOOD = {"policy.hujson": '{"acls": []}'}
OPEN = {"policy.hujson": '{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}'}
BAD = {"policy.hujson": '{"acsl": []}'}


@dataclass(slots=True)
class World:
    """What follows a repository, and who may sign in it."""

    repository: Repository
    signers: Path
    ana: SshKey
    eve: SshKey
    engine: Engine
    fetcher: Fetcher
    reconciler: Reconciler

    @property
    def applied(self) -> str | None:
        deployment = self.engine.snapshot.deployment
        return None if deployment is None else deployment.commit

    async def verified(self) -> tuple[bool | None, str]:
        """Look at the repository; return the condition."""
        return said(await self.reconciler.sync())


def said(status: Status, name: ConditionName = ConditionName.VERIFIED) -> tuple[bool | None, str]:
    one = status.conditions[name]
    return one.state, one.reason


@contextlib.asynccontextmanager
async def world(folder: Path, mode: Signatures = Signatures.STRICT) -> AsyncIterator[World]:
    repository, signers = Repository(folder / "repo"), folder / "signers"
    ana, eve = SshKey(folder / "ana"), SshKey(folder / "eve")
    signers.write_text(ana.signer())
    clock, source = FakeClock(), Source.parse(str(repository.path))
    engine = await Engine.open(TailnetName("default"), MemoryJournal(), MemoryFeed(), clock)
    demands = Demands(signatures=mode, ssh_signers=str(signers))
    fetcher = Fetcher(source, folder / "state" / "policy.git", demands)
    running = asyncio.create_task(engine.run())
    try:
        reconciler = Reconciler(engine, source, fetcher, clock)
        yield World(repository, signers, ana, eve, engine, fetcher, reconciler)
    finally:
        await fetcher.close()
        engine.stop()
        await running


@aio
async def test_an_unsigned_commit_changes_nothing_until_it_is_signed(tmp_path: Path) -> None:
    """The last good one stays in force; what was not looked at is said not to be known."""
    async with world(tmp_path) as here:
        first = sign(here.repository, GOOD, here.ana)
        assert await here.verified() == (True, "Verified")
        assert here.reconciler.status.verified_by == (f"ana@example.com ({here.ana.fingerprint})",)
        sign(here.repository, OPEN, None)
        status = await here.reconciler.sync()
        assert {str(name): said(status, name) for name in status.conditions} == {
            "Fetched": (True, "Fetched"),
            "Verified": (False, "Unsigned"),
            "Valid": (None, "NotReached"),
            "Tested": (None, "NotReached"),
            "Planned": (None, "NotReached"),
            "Applied": (False, "Unsigned"),
            "Stalled": (True, "Unsigned"),
        }
        assert (here.applied, status.verified_by) == (first, ())
        with pytest.raises(Untrusted):
            await here.reconciler.proposed()
        # Looking again says the same.
        assert await here.verified() == (False, "Unsigned")
        here.repository.move(first)
        signed = sign(here.repository, OPEN, here.ana)
        assert await here.verified() == (True, "Verified")
        assert here.applied == signed
        assert said(here.reconciler.status, ConditionName.STALLED) == (False, "Following")


@aio
async def test_keys_change_without_a_restart_nor_a_new_commit(tmp_path: Path) -> None:
    """A key that is added lets the waiting commit in; one that is taken away shows at once."""
    async with world(tmp_path) as here:
        first = sign(here.repository, GOOD, here.ana)
        await here.verified()
        second = sign(here.repository, OPEN, here.eve)
        assert await here.verified() == (False, "UntrustedKey")
        here.signers.write_text(here.ana.signer() + here.eve.signer("eve@example.com"))
        # Somebody asks for a plan meanwhile: that takes no verdict away.
        assert (await here.reconciler.proposed()) is not None
        assert here.applied == first
        assert await here.verified() == (True, "Verified")
        assert here.applied == second
        here.signers.write_text(here.ana.signer())
        assert await here.verified() == (False, "UntrustedKey")
        assert here.applied == second
        assert said(here.reconciler.status, ConditionName.APPLIED) == (True, "Applied")


@aio
async def test_without_its_file_of_signers_the_server_takes_no_commit(tmp_path: Path) -> None:
    """It is tried again by itself and goes on once the file is back."""
    async with world(tmp_path, Signatures.HEAD) as here:
        first = sign(here.repository, GOOD, here.ana)
        await here.verified()
        second = sign(here.repository, OPEN, here.ana)
        kept = here.signers.read_text()
        here.signers.unlink()
        assert await here.verified() == (False, "TrustUnreadable")
        assert said(here.reconciler.status, ConditionName.STALLED) == (False, "Following")
        assert here.applied == first
        here.signers.write_text(kept)
        assert await here.verified() == (True, "Verified")
        assert here.applied == second


@aio
async def test_a_commit_that_adds_its_own_key_is_refused(tmp_path: Path) -> None:
    """Row G23, although the server's file has the name that the repository's has."""
    async with world(tmp_path) as here:
        first = sign(here.repository, GOOD | {"signers": here.ana.signer()}, here.ana)
        await here.verified()
        own = {"signers": here.ana.signer() + here.eve.signer("eve@example.com")}
        sign(here.repository, OPEN | own, here.eve)
        assert await here.verified() == (False, "UntrustedKey")
        assert here.applied == first


@aio
async def test_an_old_signed_commit_does_not_come_back(tmp_path: Path) -> None:
    """Row G24: its signature is good for ever, but the branch goes forward only."""
    async with world(tmp_path) as here:
        old = sign(here.repository, OPEN, here.ana)
        await here.verified()
        new = sign(here.repository, GOOD, here.ana)
        await here.verified()
        here.repository.move(old)
        assert await here.verified() == (None, "NotReached")
        assert here.reconciler.trouble is not None
        assert (here.reconciler.trouble.reason, here.applied) == ("HistoryRewritten", new)


@aio
async def test_accepting_a_rewritten_history_is_not_trusting_it(tmp_path: Path) -> None:
    """Every commit that is not in force yet is looked at, whatever an operator accepted."""
    async with world(tmp_path) as here:
        sign(here.repository, GOOD, here.ana)
        await here.verified()
        unsigned = here.repository.commit(OPEN, parent=None)
        signed = sign(here.repository, OPEN | {"notes": "x"}, here.ana)
        await here.engine.apply(wishes.accept(signed))
        status = await here.reconciler.sync()
        assert said(status) == (False, "Unsigned")
        assert unsigned[:12] in status.conditions[ConditionName.VERIFIED].message
        here.repository.git("update-ref", "-d", "refs/heads/main")
        good = sign(here.repository, OPEN, here.ana)
        await here.engine.apply(wishes.accept(good))
        assert await here.verified() == (True, "Verified")
        assert here.applied == good


@aio
async def test_naming_a_commit_is_not_trusting_it(tmp_path: Path) -> None:
    """Who pins a commit by its id has it, and every one below it, looked at like the branch's."""
    async with world(tmp_path) as here:
        first = sign(here.repository, GOOD, here.ana)
        await here.verified()
        sign(here.repository, GOOD | {"notes": "w"}, here.ana)
        await here.verified()
        good = sign(here.repository, OPEN, here.ana)
        unsigned = sign(here.repository, GOOD | {"notes": "x"}, None)
        over = sign(here.repository, OPEN | {"notes": "y"}, here.ana)
        assert await here.verified() == (False, "Unsigned")
        with pytest.raises(Untrusted, match=f"commit {unsigned[:12]} is not signed"):
            await here.reconciler.earlier(over)
        # What is above it does not matter, and what is in force may be above it.
        found = await here.reconciler.earlier(good[:12])
        assert (found.commit, found.verdict and found.verdict.commits) == (good, 1)
        assert (await here.reconciler.earlier(first[:12])).commit == first
        with pytest.raises(Untrusted):
            await here.reconciler.earlier(unsigned)
        here.signers.write_text(here.eve.signer())
        with pytest.raises(Untrusted, match="by a key that is not trusted"):
            await here.reconciler.earlier(first)


@aio
@pytest.mark.parametrize(
    ("mode", "found"),
    [(Signatures.STRICT, ("Unsigned", 1)), (Signatures.HEAD, ("", 1)), (Signatures.OFF, ("", 1))],
)
async def test_what_a_pull_request_brings_is_looked_at(
    tmp_path: Path, mode: Signatures, found: tuple[str, int]
) -> None:
    """Every commit of it, its newest or none, as the mode has it; nothing of the branch again."""
    async with world(tmp_path, mode) as here:
        base = sign(here.repository, GOOD, here.ana)
        await here.verified()
        unsigned = sign(here.repository, OPEN, None)
        head = sign(here.repository, OPEN | {"notes": "x"}, here.ana)
        here.repository.git("update-ref", "refs/pull/1/head", head)
        here.repository.move(base)
        demands = Demands(signatures=mode, ssh_signers=str(here.signers))
        source = Source.parse(str(here.repository.path))
        trials = Trials(source, tmp_path / "state" / "policy.git", demands=demands)
        try:
            merged = (await trials.attempt("refs/pull/1/head")).found
            assert merged is not None
            assert merged.verdict is not None
            assert (merged.verdict.reason, merged.verdict.commits) == found
            assert (unsigned[:12] in merged.verdict.message) is (mode is Signatures.STRICT)
            assert bool(merged.verdict.by) is (mode is Signatures.HEAD)
        finally:
            await trials.close()


@aio
async def test_what_is_signed_still_has_to_be_good(tmp_path: Path) -> None:
    """And is said to be verified, so that nobody looks for the fault in the keys."""
    async with world(tmp_path) as here:
        sign(here.repository, BAD, here.ana)
        status = await here.reconciler.sync()
        assert said(status) == (True, "Verified")
        assert said(status, ConditionName.VALID) == (False, "Invalid")


@aio
async def test_after_a_restart_it_is_known_who_signed_what_is_in_force(tmp_path: Path) -> None:
    """By looking at it again, with the keys of now."""
    async with world(tmp_path) as here:
        sign(here.repository, GOOD, here.ana)
        await here.verified()
        fetcher = Fetcher(
            Source.parse(str(here.repository.path)),
            tmp_path / "other" / "policy.git",
            Demands(signatures=Signatures.STRICT, ssh_signers=str(here.signers)),
        )
        source = Source.parse(str(here.repository.path))
        later = Reconciler(here.engine, source, fetcher, FakeClock())
        try:
            assert said(await later.sync()) == (True, "Verified")
        finally:
            await fetcher.close()


@pytest.mark.enable_socket
@pytest.mark.timeout(120)
def test_a_server_takes_signed_commits_only_and_says_who_signed(tmp_path: Path) -> None:
    """Ssh and gpg keys of its configuration; the command line shows both, and the doctor."""
    repository, ana = Repository(tmp_path / "repo"), SshKey(tmp_path / "ana")
    (tmp_path / "signers").write_text(ana.signer())
    with GpgHome.made() as home:
        bea = home.key("Bea <bea@example.com>")
        (tmp_path / "keys.asc").write_bytes(home.public(bea))
        first = sign(repository, GOOD, ana)
        trust = {
            "signatures": "strict",
            "ssh_signers": str(tmp_path / "signers"),
            "gpg_keys": str(tmp_path / "keys.asc"),
            "committers": ["*@example.com"],
        }
        tailnets = {"default": {"url": str(repository.path), "trust": trust}}
        server = ServerProcess(tmp_path / "state", settings={"tailnets": json.dumps(tailnets)})
        cli = CommandLine(("--state-dir", str(server.state_dir)))
        with serving(server):
            eventually(
                "the signed one is in force",
                lambda: bool(server.events("policy.applied")) and in_force(cli) == first,
                within_s=60,
            )
            sign(repository, OPEN, None)
            refused = cli("gitops", "sync")
            assert (refused.code, in_force(cli)) == (3, first)
            assert "Unsigned" in refused.out
            repository.move(first)
            second = sign(repository, OPEN, bea)
            assert cli("gitops", "sync").code == 0
            assert in_force(cli) == second
            assert f"Verified by  Bea <bea@example.com> ({bea.fingerprint})" in (
                cli("gitops", "status").out
            )
            back = cli("gitops", "rollback", first, "--reason", "too open", "--yes")
            assert (back.code, in_force(cli)) == (0, first)
            ana_signed = [f"ana@example.com ({ana.fingerprint})"]
            bea_signed = [f"Bea <bea@example.com> ({bea.fingerprint})"]
            past = cli("gitops", "history", "-o", "json").json["deployments"]
            assert [(one["commit"], one["verifiedBy"]) for one in past] == [
                (first, ana_signed),
                (second, bea_signed),
                (first, ana_signed),
            ]
            told = cli("gitops", "history").out
            assert "too open; signed by ana@example.com\n" in told
            assert "signed by Bea <bea@example.com>\n" in told
            found = CommandLine((), ours(server))("doctor")
            line = (
                "✔ trust: default: signatures strict, 1 ssh signers, 1 gpg keys, "
                "committers: *@example.com"
            )
            assert line in found.out.splitlines()
        (tmp_path / "keys.asc").write_text("nothing")
        checked = CommandLine((), ours(server))("config", "check")
        where = "error: MERGESCALE_TAILNETS: tailnets.default.trust: gpg does not read the keys in"
        assert checked.code == 1
        assert checked.err == (
            f'{where} "{tmp_path}/keys.asc" (write it with `gpg --export --armor KEY…`)\n'
        )


def ours(server: ServerProcess) -> dict[str, str]:
    return {k: v for k, v in server.environment().items() if k.startswith("MERGESCALE_")}


def in_force(cli: CommandLine) -> str:
    commit: str = cli("gitops", "status", "-o", "json").json["current"]["commit"]
    return commit
