"""From a commit in a real repository, through the real child process, into a real engine."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mergescale.gitops.errors import ReconcileError, Stalled, Transient
from mergescale.gitops.git.child import Fetcher
from mergescale.gitops.git.source import Source
from mergescale.gitops.git.worker import MAX_FILE_BYTES
from mergescale.gitops.reconcile import Reconciler
from mergescale.gitops.status import Status
from mergescale.gitops.watch import Watcher
from mergescale.kernel.ids import TailnetName
from mergescale.state.engine import Engine
from support.aio import aio, until
from support.clock import FakeClock
from support.journal import MemoryFeed, MemoryJournal
from support.repositories import Repository

GOOD = {"policy.hujson": '{"acls": []}'}
OTHER = {"policy.hujson": '{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:22"]}]}'}


@dataclass(slots=True)
class Follower:
    """What follows a repository, as the server has it."""

    engine: Engine
    fetcher: Fetcher
    reconciler: Reconciler
    store: Path

    @property
    def applied(self) -> str | None:
        deployment = self.engine.snapshot.deployment
        return None if deployment is None else deployment.commit

    async def sync(self) -> Status:
        return await self.reconciler.sync()

    @property
    def trouble(self) -> ReconcileError | None:
        return self.reconciler.trouble

    @property
    def why(self) -> str:
        """Return the reason of the trouble, empty for none."""
        return "" if self.trouble is None else self.trouble.reason


@contextlib.asynccontextmanager
async def following(
    source: Source, state: Path, *, journal: MemoryJournal | None = None
) -> AsyncIterator[Follower]:
    clock = FakeClock()
    store = state / "policy.git"
    engine = await Engine.open(
        TailnetName("default"), journal or MemoryJournal(), MemoryFeed(), clock
    )
    fetcher = Fetcher(source, store)
    running = asyncio.create_task(engine.run())
    try:
        yield Follower(engine, fetcher, Reconciler(engine, source, fetcher, clock), store)
    finally:
        await fetcher.close()
        engine.stop()
        await running


def source_of(repository: Repository, *, folder: str = "", ref: str = "main") -> Source:
    return Source.parse(str(repository.path), folder=folder, ref=ref)


def places(status: Status) -> list[tuple[str, str]]:
    """Return (file:line:column, message) of everything that is said of the target."""
    spans = [(one.diagnostic.span, one.diagnostic.message) for one in status.problems]
    return [(f"{s.file}:{s.start_line}:{s.start_column}", message) for s, message in spans]


@aio
async def test_a_commit_comes_into_force_with_everything_it_declares(tmp_path: Path) -> None:
    """All six files are read from the tree; other files and folders are left alone."""
    repository = Repository(tmp_path / "repo")
    commit = repository.commit(
        {
            **GOOD,
            "users.hujson": '{"users": [{"login": "ana@example.com", "role": "admin"}]}',
            "tags.hujson": '{"tags": {"tag:web": {}}}',
            "derp.hujson": '{"Regions": {}}',
            "dns.hujson": '{"magicDNS": false}',
            "tailnet.hujson": '{"domain": "example.com"}',
            "README.md": b"\xff not even text",
            "old/users.hujson": "{",
        },
        "start over",
    )
    async with following(source_of(repository), tmp_path / "state") as here:
        status = await here.sync()
        deployment = here.engine.snapshot.deployment
        assert deployment is not None
        assert (deployment.commit, deployment.subject, deployment.author) == (
            commit,
            "start over",
            "Ana Example",
        )
        assert sorted(deployment.files) == [
            "derp.hujson",
            "dns.hujson",
            "policy.hujson",
            "tags.hujson",
            "tailnet.hujson",
            "users.hujson",
        ]
        assert here.engine.snapshot.domain == "example.com"
        assert here.engine.snapshot.dns.magic_dns is False
        assert here.engine.snapshot.user_by_login("ANA@example.com") is not None
        assert status.as_json()["current"]["commit"] == commit


BAD: dict[str, tuple[Mapping[str, str | bytes | None], list[tuple[str, str]]]] = {
    "syntax": (
        {"policy.hujson": '{\n  "acls": [\n    {"action": "accept" "src": []},\n  ],\n}\n'},
        [("policy.hujson:3:25", 'expected a comma or }, found "src"')],
    ),
    "unknown key": (
        {"users.hujson": '{"users": [\n  {"login": "a@b.c", "grups": []},\n]}'},
        [("users.hujson:2:22", 'key "grups" is not known')],
    ),
    "failing test": (
        {"policy.hujson": '{"acls": [],\n "tests": [{"src": "a@b.c", "accept": ["d@e.f:1"]}]}'},
        [
            (
                "policy.hujson:2:40",
                "test(s) failed: a@b.c should reach d@e.f:1, the policy denies it",
            )
        ],
    ),
    "policy removed": (
        {"policy.hujson": None, "tags.hujson": '{"tags": {}}'},
        [("policy.hujson:1:1", "there is no policy.hujson")],
    ),
    "policy emptied": ({"policy.hujson": ""}, [("policy.hujson:1:1", "the file is empty")]),
    "not UTF-8": (
        {"policy.hujson": "{\n  // caf\u00e9 ".encode() + b"\xe9\n}"},
        [("policy.hujson:2:11", "the file is not UTF-8 from here on")],
    ),
    "too large": (
        {"policy.hujson": b" " * (MAX_FILE_BYTES + 1)},
        [
            (
                "policy.hujson:1:1",
                f"the file has {MAX_FILE_BYTES + 1} bytes, the limit is {MAX_FILE_BYTES}",
            )
        ],
    ),
    "too many": (
        {f"f{number}.hujson": "{}" for number in range(257)},
        [(".:1:1", "the folder holds more than 256 files or 8388608 bytes")],
    ),
    "odd name": (
        {"pol\u202eicy.hujson": "{}"},
        [("pol\N{REPLACEMENT CHARACTER}icy.hujson:1:1", "the file's name holds odd characters")],
    ),
}  # fmt: skip


@aio
async def test_bad_commits_change_nothing_and_the_next_good_one_applies(tmp_path: Path) -> None:
    """Whatever is wrong is told with its place; the last good commit stays in force."""
    repository = Repository(tmp_path / "repo")
    good = repository.commit(GOOD)
    async with following(source_of(repository), tmp_path / "state") as here:
        await here.sync()
        in_force = here.engine.snapshot
        for name, (files, said) in BAD.items():
            bad = repository.commit(files, name, parent=good)
            status = await here.sync()
            assert (name, places(status)) == (name, said)
            assert status.target is not None
            assert status.target.commit == bad
            assert isinstance(here.trouble, Stalled)
            assert here.engine.snapshot is in_force
        fixed = repository.commit(OTHER, parent=good)
        status = await here.sync()
        assert (here.applied, places(status), here.trouble) == (fixed, [], None)


@aio
async def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    """Wherever one points, inside or outside: nothing behind it is read."""
    repository = Repository(tmp_path / "repo")
    good = repository.commit({**GOOD, "real.json": '{"acls": []}'})
    async with following(source_of(repository), tmp_path / "state") as here:
        await here.sync()
        for target in ("/etc/passwd", "real.json", "../outside"):
            repository.link("policy.hujson", target)
            status = await here.sync()
            assert here.applied == good
            assert places(status) == [("policy.hujson:1:1", "symbolic links are not followed")]


@aio
async def test_a_submodule_is_not_followed(tmp_path: Path) -> None:
    """Neither as a file of ours nor as the watched folder; elsewhere it does not matter."""
    repository = Repository(tmp_path / "repo")
    repository.commit(GOOD)
    aside = repository.gitlink("vendor/library")
    async with following(source_of(repository), tmp_path / "state") as here:
        await here.sync()
        assert here.applied == aside
        repository.gitlink("users.hujson")
        status = await here.sync()
        assert here.applied == aside
        assert places(status) == [("users.hujson:1:1", "submodules are not followed")]
    inside = source_of(repository, folder="vendor/library")
    async with following(inside, tmp_path / "other") as there:
        status = await there.sync()
        assert there.applied is None
        assert places(status) == [
            ("vendor/library:1:1", "the watched folder is not in this commit")
        ]


@aio
async def test_a_folder_of_a_larger_repository_is_followed(tmp_path: Path) -> None:
    """Commits that do not touch it come into force too: the commit is what is in force."""
    repository = Repository(tmp_path / "repo")
    first = repository.commit({"net/home/policy.hujson": '{"acls": []}', "policy.hujson": "{"})
    async with following(source_of(repository, folder="net/home"), tmp_path / "state") as here:
        await here.sync()
        assert here.applied == first
        elsewhere = repository.commit({"app/main.py": "print()"})
        await here.sync()
        assert here.applied == elsewhere


@aio
async def test_fragments_of_a_policy_are_read_and_odd_ones_refused(tmp_path: Path) -> None:
    """``policy.d`` of the watched folder counts; a link or a file in its place changes nothing."""
    repository = Repository(tmp_path / "repo")
    good = repository.commit({"net/policy.d/10-a.hujson": '{"acls": []}'})
    async with following(source_of(repository, folder="net"), tmp_path / "state") as here:
        await here.sync()
        assert here.applied == good
        repository.commit({"net/policy.d/20-b.hujson": '{"acls": [{}]}'})
        status = await here.sync()
        assert here.applied == good
        assert places(status)[0][0] == "policy.d/20-b.hujson:1:11"
        repository.commit({"net/policy.d": "{}", "net/policy.hujson": '{"acls": []}'})
        status = await here.sync()
        assert here.applied == good
        assert places(status) == [("policy.d:1:1", "policy.d is not a folder")]


@aio
async def test_two_commits_between_two_looks_end_at_the_newer_one(tmp_path: Path) -> None:
    """A bad commit in between does not matter when the tip is good."""
    repository = Repository(tmp_path / "repo")
    repository.commit(GOOD)
    async with following(source_of(repository), tmp_path / "state") as here:
        await here.sync()
        repository.commit({"policy.hujson": "{"})
        newest = repository.commit(OTHER)
        await here.sync()
        assert (here.applied, here.trouble) == (newest, None)


@aio
async def test_a_lost_repository_keeps_the_policy_across_a_restart(tmp_path: Path) -> None:
    """The texts in force are stored; the repository is only needed for the next change."""
    repository = Repository(tmp_path / "repo")
    commit = repository.commit(GOOD)
    journal = MemoryJournal()
    async with following(source_of(repository), tmp_path / "state", journal=journal) as here:
        await here.sync()
    repository.remove()
    async with following(source_of(repository), tmp_path / "state", journal=journal) as again:
        status = await again.sync()
        assert again.applied == commit
        assert isinstance(again.trouble, Transient)
        assert again.trouble.reason == "RemoteMissing"
        assert status.as_json()["conditions"][0]["state"] is False


@aio
async def test_a_branch_that_is_gone_or_never_was_stalls(tmp_path: Path) -> None:
    """An empty repository is the same to us as a deleted branch."""
    repository = Repository(tmp_path / "repo")
    async with following(source_of(repository), tmp_path / "state") as here:
        await here.sync()
        assert (here.applied, here.why) == (None, "RefMissing")
        commit = repository.commit(GOOD)
        await here.sync()
        assert (here.applied, here.why) == (commit, "")
        repository.git("update-ref", "-d", "refs/heads/main")
        await here.sync()
        assert (here.applied, here.why) == (commit, "RefMissing")


@aio
async def test_rewritten_history_is_refused_until_it_contains_what_is_in_force(
    tmp_path: Path,
) -> None:
    """Amended, replaced by another root, or moved back: none of them is followed."""
    repository = Repository(tmp_path / "repo")
    first = repository.commit(GOOD, "first")
    second = repository.commit(OTHER, "second")
    async with following(source_of(repository), tmp_path / "state") as here:
        await here.sync()
        assert here.applied == second
        repository.commit(GOOD, "amended", parent=first)
        amended = await here.sync()
        repository.commit(GOOD, "another root", parent=None)
        replaced = await here.sync()
        repository.move(first)
        back = await here.sync()
        for status in (amended, replaced, back):
            reasons = {str(name): one.reason for name, one in status.conditions.items()}
            assert reasons["Stalled"] == reasons["Applied"] == "HistoryRewritten"
        assert here.applied == second
        repository.move(second)
        newest = repository.commit(GOOD, "third")
        await here.sync()
        assert (here.applied, here.trouble) == (newest, None)


@aio
async def test_tags_and_packed_refs_can_be_followed(tmp_path: Path) -> None:
    """An annotated tag stands for its commit."""
    repository = Repository(tmp_path / "repo")
    commit = repository.commit(GOOD)
    repository.git("tag", "-a", "-m", "release", "v1")
    repository.git("pack-refs", "--all")
    tagged = source_of(repository, ref="refs/tags/v1")
    async with following(tagged, tmp_path / "state") as here:
        await here.sync()
        assert here.applied == commit


@aio
async def test_a_damaged_store_is_made_anew(tmp_path: Path) -> None:
    """The server's own copy is disposable: whatever happened to it, the next commit applies."""
    repository = Repository(tmp_path / "repo")
    repository.commit(GOOD)
    async with following(source_of(repository), tmp_path / "state") as here:
        await here.sync()
        for damage in (_leave_a_lock, _spoil_objects, _lose_the_head, _spoil_the_config):
            damage(here.store)
            commit = repository.commit(OTHER, damage.__name__)
            await here.sync()
            assert (damage, here.applied, here.trouble) == (damage, commit, None)


def _leave_a_lock(store: Path) -> None:
    (store / "refs/mergescale/tip.lock").write_text("")


def _spoil_objects(store: Path) -> None:
    for path in [*store.glob("objects/??/*"), *store.glob("objects/pack/*")]:
        path.chmod(0o600)
        path.write_bytes(b"rubbish")


def _lose_the_head(store: Path) -> None:
    (store / "HEAD").unlink()


def _spoil_the_config(store: Path) -> None:
    (store / "config").write_text("[core\n")


@aio
async def test_objects_that_fail_gits_checks_are_refused_every_time(tmp_path: Path) -> None:
    """A second fetch must not take what the first one left behind."""
    repository = Repository(tmp_path / "repo")
    good = repository.commit(GOOD)
    async with following(source_of(repository), tmp_path / "state") as here:
        await here.sync()
        blob = repository.git("hash-object", "-w", "--stdin", stdin=b'{"acls": []}')
        entry = b"100644 policy.hujson\0" + bytes.fromhex(blob)
        tree = repository.git(
            "hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=entry + entry
        )
        bad = repository.git("commit-tree", tree, "-p", good, "-m", "twice the same name")
        repository.move(bad)
        for _ in range(2):
            await here.sync()
            assert (here.applied, here.why) == (good, "BadObjects")


class _RealClock(FakeClock):
    def monotonic(self) -> float:
        return time.monotonic()


@aio
async def test_a_watched_repository_is_followed_without_being_asked(tmp_path: Path) -> None:
    """A commit, a lost repository and its return are all noticed by the running loop."""
    repository = Repository(tmp_path / "repo")
    first = repository.commit(GOOD)
    source = source_of(repository)
    async with following(source, tmp_path / "state") as here:
        watcher = Watcher(here.reconciler, here.fetcher, source, _RealClock())
        running = asyncio.create_task(watcher.run())
        await until(lambda: here.applied == first)
        second = repository.commit(OTHER)
        await until(lambda: here.applied == second)
        (tmp_path / "repo").rename(tmp_path / "away")
        await until(lambda: here.trouble is not None)
        (tmp_path / "away").rename(tmp_path / "repo")
        third = repository.commit(GOOD)
        await until(lambda: here.applied == third)
        assert here.trouble is None
        running.cancel()
        await asyncio.wait({running})
