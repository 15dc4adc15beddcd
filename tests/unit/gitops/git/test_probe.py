"""A moved ref is seen without git."""

from __future__ import annotations

from pathlib import Path

from mergescale.gitops.git.probe import fingerprint
from support.repositories import Repository

MAIN = "refs/heads/main"


def test_a_commit_changes_the_fingerprint_and_nothing_else_does(tmp_path: Path) -> None:
    """Only the followed ref counts; new objects and other branches do not."""
    repository = Repository(tmp_path / "repo")
    commit = repository.commit({"policy.hujson": "{}"})
    before = fingerprint(repository.path, MAIN)
    repository.git("hash-object", "-w", "--stdin", stdin=b"loose")
    repository.git("update-ref", "refs/heads/other", commit)
    assert fingerprint(repository.path, MAIN) == before
    repository.commit({"policy.hujson": "{ }"})
    assert fingerprint(repository.path, MAIN) != before


def test_a_packed_ref_is_seen_too(tmp_path: Path) -> None:
    """After `git pack-refs` the loose file is gone."""
    repository = Repository(tmp_path / "repo")
    repository.commit({"policy.hujson": "{}"})
    repository.git("pack-refs", "--all")
    packed = fingerprint(repository.path, MAIN)
    repository.commit({"policy.hujson": "{ }"})
    assert fingerprint(repository.path, MAIN) != packed


def test_a_working_folder_and_a_linked_worktree_lead_to_the_refs(tmp_path: Path) -> None:
    """`.git` may be a folder or a file that names one."""
    repository = Repository(tmp_path / "work" / ".git")
    repository.commit({"policy.hujson": "{}"})
    linked = tmp_path / "linked"
    repository.git("worktree", "add", "--quiet", "--detach", str(linked))
    before = [fingerprint(place, MAIN) for place in (tmp_path / "work", linked)]
    repository.commit({"policy.hujson": "{ }"})
    after = [fingerprint(place, MAIN) for place in (tmp_path / "work", linked)]
    assert all(old != new for old, new in zip(before, after, strict=True))


def test_a_repository_that_comes_or_goes_changes_the_fingerprint(tmp_path: Path) -> None:
    """Nothing there is a state like any other."""
    place = tmp_path / "repo"
    nothing = fingerprint(place, MAIN)
    repository = Repository(place)
    empty = fingerprint(place, MAIN)
    repository.commit({"policy.hujson": "{}"})
    assert len({nothing, empty, fingerprint(place, MAIN)}) == 3
    repository.remove()
    assert fingerprint(place, MAIN) == nothing
