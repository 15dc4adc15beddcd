"""Tags, ranges of versions and pinned commits, followed for real."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mergescale.gitops.errors import Stalled
from mergescale.gitops.git.child import Fetcher
from mergescale.gitops.git.messages import Unchanged
from mergescale.gitops.git.probe import fingerprint
from mergescale.gitops.git.revisions import Followed
from mergescale.gitops.git.source import Source
from mergescale.gitops.reconcile import Reconciler
from mergescale.kernel.errors import Invalid
from mergescale.kernel.ids import TailnetName
from mergescale.server.settings import Repository as Configured
from mergescale.server.watched import source_of
from mergescale.state import following as wishes
from mergescale.state.engine import Engine
from support.aio import aio
from support.clock import FakeClock
from support.journal import MemoryFeed, MemoryJournal
from support.looks import looker
from support.repositories import Repository

POLICY = '{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:%d"]}]}'


def policy(port: int) -> dict[str, str]:
    return {"policy.hujson": POLICY % port}


def test_the_newest_version_is_followed_and_a_newer_one_is_found(tmp_path: Path) -> None:
    """An annotated tag is the commit that it names; versions outside the range are not looked at."""
    repository = Repository(tmp_path / "repo")
    first = repository.commit(policy(1))
    repository.git("tag", "v1.2.0", first)
    second = repository.commit(policy(2))
    repository.git("tag", "-a", "-m", "better", "v1.10.0", second)
    repository.git("tag", "v2.0.0", repository.commit(policy(3)))
    looking = looker(repository.path, tmp_path / "state", ref=Followed.parse(semver=">=1.2 <2"))
    found = looking.finds()
    assert (found.commit, found.name, found.files) == (second, "v1.10.0", policy(2))
    assert looking.finds(known=second).commit == second
    assert looking.look(known=second) == Unchanged(second)
    before = fingerprint(repository.path, "refs/tags")
    fourth = repository.commit(policy(4))
    assert fingerprint(repository.path, "refs/tags") == before
    repository.git("tag", "v1.11.0", fourth)
    assert fingerprint(repository.path, "refs/tags") != before
    found = looking.finds(known=second, applied=second)
    assert (found.commit, found.name, found.descends) == (fourth, "v1.11.0", True)
    assert looking.look(known=fourth, applied=fourth) == Unchanged(fourth)


def test_a_range_that_no_tag_is_in_says_so(tmp_path: Path) -> None:
    """So does a tag that is none, and one that does not name a commit."""
    repository = Repository(tmp_path / "repo")
    repository.commit(policy(1))
    repository.git("tag", "v1.0.0-rc.1")
    reasons = []
    repository.git("tag", "blob", repository.git("hash-object", "-w", "--stdin", stdin=b"x"))
    for ref in (Followed.parse(semver="1.x"), Followed.parse(tag="v9"), Followed.parse(tag="blob")):
        with pytest.raises(Stalled) as refused:
            looker(repository.path, tmp_path / "state", ref=ref).look()
        reasons.append((refused.value.reason, refused.value.message))
    assert reasons == [
        ("RefMissing", "no tag of the repository is a version in the range"),
        ("RefMissing", "the branch or tag does not exist in the repository"),
        ("NoCommit", "what is followed does not name a commit"),
    ]


def test_a_copy_without_its_history_is_called_what_it_is(tmp_path: Path) -> None:
    """Git takes nothing from it, warns, and calls that a success."""
    repository = Repository(tmp_path / "repo")
    repository.commit(policy(1))
    repository.commit(policy(2))
    copy = tmp_path / "copy"
    repository.git(
        "clone", "--quiet", "--bare", "--depth=1", f"file://{repository.path}", str(copy)
    )
    for _ in range(2):
        with pytest.raises(Stalled, match="the repository is a shallow copy") as refused:
            looker(copy, tmp_path / "state").look()
        assert refused.value.reason == "Shallow"


def test_a_tag_that_moves_aside_does_not_descend(tmp_path: Path) -> None:
    """It is refused like a rewritten branch; so is a newer version of another line."""
    repository = Repository(tmp_path / "repo")
    first = repository.commit(policy(1))
    second = repository.commit(policy(2))
    repository.git("tag", "v1.0.0", second)
    looking = looker(repository.path, tmp_path / "state", ref=Followed.parse(tag="v1.0.0"))
    assert looking.finds().commit == second
    repository.git("tag", "-f", "v1.0.0", first)
    found = looking.finds(known=second, applied=second)
    assert (found.commit, found.descends, found.files) == (first, False, {})


def test_a_pinned_commit_needs_no_branch_and_then_no_remote(tmp_path: Path) -> None:
    """It may also be an older one: whoever configures it by its id has accepted it."""
    repository = Repository(tmp_path / "repo")
    first = repository.commit(policy(1))
    second = repository.commit(policy(2))
    looking = looker(repository.path, tmp_path / "state", ref=Followed.parse(commit=first))
    found = looking.finds(applied=second)
    assert (found.commit, found.name, found.descends) == (first, "", True)
    assert found.files == policy(1)
    for file in (repository.path / "refs" / "heads").iterdir():
        file.unlink()
    assert looking.finds().files == policy(1)
    missing = looker(repository.path, tmp_path / "other", ref=Followed.parse(commit="1" * 40))
    with pytest.raises(Stalled) as refused:
        missing.look()
    assert refused.value.reason == "RefMissing"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({}, "refs/heads/main"),
        ({"branch": "next"}, "refs/heads/next"),
        ({"tag": "v1"}, "refs/tags/v1"),
        ({"semver": "1.x"}, "1.x"),
        ({"commit": "1" * 40}, "1" * 40),
        ({"tag": "v1", "commit": "1" * 40}, None),
        ({"branch": "main", "semver": "1.x"}, None),
    ],
)
def test_exactly_one_of_four_is_configured(words: dict[str, str], expected: str | None) -> None:
    """The usual branch gives way; one that is said does not."""
    repository = Configured.model_validate({"url": "/srv/git", **words})
    if expected is None:
        with pytest.raises(Invalid):
            source_of(repository)
    else:
        assert source_of(repository).followed.ref == expected


def test_limits_are_configured_by_name() -> None:
    """They reach who fetches."""
    words = {"url": "/srv/git", "limits": {"files": 7, "fetch_s": 5}}
    source = source_of(Configured.model_validate(words))
    assert (source.limits.files, source.limits.depth, source.timeout_s) == (7, 64, 5)


@aio
async def test_a_moved_version_waits_for_its_acceptance_and_the_status_names_it(
    tmp_path: Path,
) -> None:
    """The revision of what is in force stays; that of the target says which tag it was."""
    repository = Repository(tmp_path / "repo")
    first = repository.commit(policy(1))
    repository.git("tag", "v1.0.0", first)
    source = Source.parse(str(repository.path), ref=Followed.parse(semver="1.x"))
    engine = await Engine.open(TailnetName("default"), MemoryJournal(), MemoryFeed(), FakeClock())
    fetcher = Fetcher(source, tmp_path / "state" / "policy.git")
    running = asyncio.create_task(engine.run())
    try:
        reconciler = Reconciler(engine, source, fetcher, FakeClock())
        said = (await reconciler.sync()).as_json()
        assert (said["follows"], said["branch"]) == ("semver", "1.x")
        assert said["current"]["revision"] == f"v1.0.0@sha1:{first}"
        aside = repository.commit(policy(2), parent=None)
        repository.git("tag", "v1.1.0", aside)
        said = (await reconciler.sync()).as_json()
        assert said["current"]["revision"] == f"sha1:{first}"
        assert said["target"]["revision"] == f"v1.1.0@sha1:{aside}"
        assert {one["reason"] for one in said["conditions"] if one["name"] == "Applied"} == {
            "HistoryRewritten"
        }
        await engine.apply(wishes.accept(aside))
        said = (await reconciler.sync()).as_json()
        assert said["current"]["revision"] == f"v1.1.0@sha1:{aside}"
    finally:
        await fetcher.close()
        engine.stop()
        await running
