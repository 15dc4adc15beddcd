"""A remote that is down, slow, hostile or full: said so, in bounded time, and got over.

Whatever it does, the last good commit stays in force, the next look at a remote that is well again
brings the newest one, and no process is left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mergescale.gitops.errors import Stalled, Transient, Waiting
from mergescale.gitops.git.access import folder_of
from mergescale.gitops.git.source import Source
from support.aio import aio, until
from support.authority import Authority
from support.git_https import (
    Behaviour,
    GitHttps,
    alternates,
    answers,
    breaks_off,
    good,
    guarded,
    never_ends,
    speaks_nonsense,
    stalls,
    trickles,
)
from support.hostkey import HOST_KEY
from support.remote_looks import Looker, looking
from support.repositories import Repository

pytestmark = [pytest.mark.timeout(120)]

FIRST = {"policy.hujson": '{"acls": []}'}
SECOND = {"policy.hujson": '{"acls": [], "groups": {}}'}
TOKEN = {"kind": "token", "user": "deploy", "token": "canary"}
#: ``deploy:canary`` as basic authentication has it.
HEADER = "Basic ZGVwbG95OmNhbmFyeQ=="
#: How long a look may take that would never end.
PATIENCE_S = 2.0
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(slots=True)
class World:
    """A remote with a commit that is in force, and a newer one."""

    remote: GitHttps
    here: Looker
    first: str
    second: str

    async def fails(self, reason: str) -> None:
        """Look; assert what is said, and that what was in force still is."""
        assert (await self.here.look(), self.here.applied) == (reason, self.first)

    async def recovers(self) -> None:
        """Look at a remote that is well again."""
        self.remote.behave = guarded(HEADER)
        self.here.hurry(60)
        assert (await self.here.look(), self.here.applied) == ("", self.second)
        assert self.here.left == []


@contextlib.asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """Follow a private repository on a remote that does as it is told."""
    repository = Repository(folder / "served" / "policy.git")
    first = repository.commit(FIRST)
    authority = Authority.made(folder / "authority")
    with GitHttps(authority, repository.path) as remote:
        remote.behave = guarded(HEADER)
        source = Source.parse(remote.url)
        async with looking(source, folder, ca_file=authority.ca) as here:
            await here.keeper.put(TOKEN, by="a test")
            assert (await here.look(), here.applied) == ("", first)
            yield World(remote, here, first, repository.commit(SECOND))


@pytest.fixture(autouse=True)
def all_buried() -> Iterator[None]:
    """Be whom orphans go to, as the first process of a container is, and find none afterwards."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    before = children()
    yield
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    assert children() - before == set()


def left(folder: Path, name: str) -> list[Path]:
    """Return the files of that name, wherever they are."""
    return list(folder.rglob(name))


def children() -> set[str]:
    """Return number, name and state of our children, the dead ones among them."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            number, rest = path.read_text("utf-8", "replace").split(" (", 1)
            name, fields = rest.rsplit(") ", 1)
            if int(fields.split()[1]) == os.getpid():
                found.add(f"{number} {name} {fields[0]}")
    return found


ANSWERS: dict[str, tuple[Behaviour, str, type[Exception]]] = {
    "401": (answers(401, WWW_Authenticate='Basic realm="x"'), "Denied", Stalled),
    "403": (answers(403), "Denied", Stalled),
    "404": (answers(404), "RemoteMissing", Transient),
    "429": (answers(429, Retry_After="7"), "RateLimited", Waiting),
    "500": (answers(500), "Unreachable", Transient),
    "503": (answers(503), "Unreachable", Transient),
    "503 until": (answers(503, Retry_After="7"), "Unreachable", Waiting),
    "429 silent": (answers(429), "RateLimited", Waiting),
    "no git": (speaks_nonsense, "BadAnswer", Transient),
    "broken off": (breaks_off, "Unreachable", Transient),
}


@pytest.mark.parametrize("case", ANSWERS)
@aio
async def test_an_answer_that_is_no_repository_is_told_apart(tmp_path: Path, case: str) -> None:
    """By what to do next: somebody has to help, somebody said how long to wait, or try again."""
    behave, reason, family = ANSWERS[case]
    async with world(tmp_path) as site:
        site.remote.behave = behave
        await site.fails(reason)
        trouble = site.here.reconciler.trouble
        assert type(trouble) is family
        if isinstance(trouble, Waiting):
            assert trouble.retry_after_s == (60 if "silent" in case else 7)
        # What git wrote down of the answer, to find that out.
        assert left(tmp_path, "headers") == []
        await site.recovers()


@pytest.mark.parametrize("behave", [trickles, stalls, never_ends], ids=lambda one: one.__name__)
@aio
async def test_an_answer_that_does_not_end_is_given_up(tmp_path: Path, behave: Behaviour) -> None:
    """After the time limit, with everything that was started for it."""
    async with world(tmp_path) as site:
        site.remote.behave = behave
        site.here.hurry(PATIENCE_S)
        await site.fails("Timeout")
        await site.recovers()


@aio
async def test_a_remote_that_is_down_or_silent_is_tried_again(tmp_path: Path) -> None:
    """Nobody listens; somebody listens and never says a word."""
    async with world(tmp_path) as site:
        url = site.here.fetcher._source.url
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            site.here.redirect(f"https://127.0.0.1:{port}/team/policy.git")
            site.here.hurry(PATIENCE_S)
            await site.fails("Timeout")
        await site.fails("Unreachable")
        site.here.redirect(url)
        await site.recovers()


@aio
async def test_a_key_is_taken_away_from_whoever_is_killed(tmp_path: Path) -> None:
    """A look that hangs is killed with its files; those of a killed server go at its next start."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        source = Source.parse(f"ssh://git@127.0.0.1:{port}/policy", timeout_s=30)
        async with looking(source, tmp_path) as here:
            folder = folder_of(here.store)
            await here.keeper.generate(f"[127.0.0.1]:{port} {HOST_KEY}", by="a test")
            look = asyncio.create_task(here.look())
            await until((folder / "known_hosts").exists)
            look.cancel()
            await asyncio.wait({look})
            assert not folder.exists()
            folder.mkdir()
            (folder / "key").write_text("of a server that was killed")
        async with looking(source, tmp_path):
            assert not folder.exists()


@aio
async def test_a_certificate_of_another_authority_is_not_believed(tmp_path: Path) -> None:
    """The token is not sent to whoever it is."""
    async with world(tmp_path) as site:
        url = site.here.fetcher._source.url
        other = Authority.made(tmp_path / "other")
        with GitHttps(other, site.remote.repository) as impostor:
            site.here.redirect(impostor.url)
            await site.fails("Certificate")
            assert impostor.asked == []
        site.here.redirect(url)
        await site.recovers()


@pytest.mark.parametrize("status", [302, 308])
@aio
async def test_a_redirect_is_not_followed(tmp_path: Path, status: int) -> None:
    """Neither to another host nor on the same one: nobody but who is configured is asked."""
    async with world(tmp_path) as site:
        authority = Authority(
            *(tmp_path / "authority" / name for name in ("ca.pem", "server.pem", "server.key"))
        )
        with GitHttps(authority, site.remote.repository) as elsewhere:
            location = f"{elsewhere.url}/info/refs?service=git-upload-pack"
            site.remote.behave = answers(status, Location=location)
            await site.fails("Redirected")
            assert elsewhere.asked == []
        here = len(site.remote.asked)
        site.remote.behave = answers(
            status, Location="/team/other.git/info/refs?service=git-upload-pack"
        )
        await site.fails("Redirected")
        assert {one.path for one in site.remote.asked[here:]} == {
            "/team/policy.git/info/refs?service=git-upload-pack"
        }
        await site.recovers()


@aio
async def test_objects_that_are_said_to_lie_elsewhere_are_not_fetched(tmp_path: Path) -> None:
    """Git's old plain protocol can point at other hosts; nobody there is asked anything."""
    async with world(tmp_path) as site:
        authority = Authority(
            *(tmp_path / "authority" / name for name in ("ca.pem", "server.pem", "server.key"))
        )
        with GitHttps(authority, site.remote.repository) as elsewhere:
            site.remote.behave = alternates(elsewhere.url, site.second)
            assert await site.here.look() != ""
            assert site.here.applied == site.first
            assert elsewhere.asked == []
        await site.recovers()


@aio
async def test_who_accepts_anybody_is_sent_nothing_that_was_not_set(tmp_path: Path) -> None:
    """A public repository is fetched without a header."""
    repository = Repository(tmp_path / "served" / "policy.git")
    first = repository.commit(FIRST)
    authority = Authority.made(tmp_path / "authority")
    with GitHttps(authority, repository.path) as remote:
        remote.behave = good
        async with looking(Source.parse(remote.url), tmp_path, ca_file=authority.ca) as here:
            assert (await here.look(), here.applied) == ("", first)
        assert remote.sent("Authorization") == set()
