"""What is fetched stays apart until it was checked; the store mends itself."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mergescale.gitops.errors import Stalled, Transient
from mergescale.gitops.git.bare import Store
from mergescale.gitops.git.limits import Limits
from mergescale.gitops.git.messages import Unchanged
from support.looks import Looker, looker
from support.repositories import Repository

GOOD = {"policy.hujson": '{"acls": []}'}
BETTER = {"policy.hujson": '{"acls": [], "groups": {}}'}


def objects(store: Path) -> set[str]:
    """Return the ids of all objects of a store, reachable or not."""
    words = ["git", f"--git-dir={store}", "cat-file", "--batch-all-objects", "--batch-check"]
    listed = subprocess.run(words, capture_output=True, check=True, text=True)
    return {line.split()[0] for line in listed.stdout.splitlines()}


def pinned(store: Path) -> set[str]:
    """Return the commits that are pinned as applied."""
    return {one.name for one in (store / "refs" / "mergescale" / "applied").glob("*")}


def beside(looking: Looker) -> set[str]:
    """Return what lies in the state folder."""
    return {one.name for one in looking.state.iterdir()}


def broken_tree(repository: Repository) -> str:
    """Commit a tree that git's checks refuse: two entries of the same name."""
    blob = repository.git("hash-object", "-w", "--stdin", stdin=b"{}")
    entry = b"100644 policy.hujson\0" + bytes.fromhex(blob)
    tree = repository.git(
        "hash-object", "-t", "tree", "-w", "--stdin", "--literally", stdin=entry * 2
    )
    return repository.git("commit-tree", tree, "-m", "twice", "-p", str(repository._tip))


def test_bad_objects_are_refused_as_often_as_they_are_fetched(tmp_path: Path) -> None:
    """No object of a refused commit ever reaches the store, so it is not taken for known later."""
    repository = Repository(tmp_path / "repo")
    first = repository.commit(GOOD)
    looking = looker(repository.path, tmp_path / "state")
    assert looking.finds().commit == first
    before = objects(looking.store)
    repository.move(broken_tree(repository))
    for _ in range(3):
        with pytest.raises(Stalled) as refused:
            looking.look(known=first, applied=first)
        assert refused.value.reason == "BadObjects"
        assert objects(looking.store) == before
    assert beside(looking) == {"policy.git", "policy.git-lock", "policy.home"}
    repository.move(first)
    second = repository.commit(BETTER)
    assert looking.finds(known=first, applied=first).files == BETTER
    assert looking.look(known=second, applied=first) == Unchanged(second)


def test_the_state_folder_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `mergescale serve --state-dir var`; nothing is made anywhere else."""
    repository = Repository(tmp_path / "repo")
    first = repository.commit(GOOD)
    monkeypatch.chdir(tmp_path)
    looking = looker(repository.path, Path("var"))
    assert looking.finds().commit == first
    assert beside(looking) == {"policy.git", "policy.git-lock", "policy.home"}
    second = repository.commit(BETTER)
    assert looking.finds(known=first, applied=first).commit == second


def test_only_what_is_new_is_transferred_and_the_rest_is_borrowed(tmp_path: Path) -> None:
    """The quarantine builds on the store: each commit adds one small pack."""
    repository = Repository(tmp_path / "repo")
    first = repository.commit({**GOOD, "large.bin": os.urandom(200_000)})
    looking = looker(repository.path, tmp_path / "state")
    looking.look()
    repository.commit(BETTER)
    found = looking.finds(known=first, applied=first)
    assert (found.files, found.descends) == (BETTER, True)
    packs = sorted(one.stat().st_size for one in looking.store.glob("objects/pack/*.pack"))
    assert len(packs) == 2
    assert packs[0] < 1_000


def test_commits_in_force_are_pinned_and_survive_the_collection(tmp_path: Path) -> None:
    """Also when the branch has left them; what nobody pinned is dropped."""
    repository = Repository(tmp_path / "repo")
    first = repository.commit(GOOD)
    looking = looker(repository.path, tmp_path / "state")
    looking.look()
    second = repository.commit(BETTER)
    assert looking.finds(known=first, applied=first).commit == second
    other = repository.commit(BETTER, parent=None)
    assert looking.finds(known=second, applied="").commit == other
    assert pinned(looking.store) == {first}
    for turn in range(60):
        shutil.copy(
            next(looking.store.glob("objects/pack/*.pack")),
            looking.store / "objects" / "pack" / f"pack-{turn:040x}.pack",
        )
    assert looking.look(known=other, applied=other) == Unchanged(other)
    left = objects(looking.store)
    assert first in left
    assert other in left
    assert second not in left
    assert len(list(looking.store.glob("objects/pack/*.pack"))) == 1


def damage_pack(store: Path) -> None:
    for pack in store.glob("objects/pack/*.pack"):
        pack.chmod(0o600)
        pack.write_bytes(pack.read_bytes()[:-40])


def damage_index(store: Path) -> None:
    for index in store.glob("objects/pack/*.idx"):
        index.unlink()


def damage_refs(store: Path) -> None:
    shutil.rmtree(store / "refs")


def damage_head(store: Path) -> None:
    (store / "HEAD").write_bytes(b"\0" * 40)


def damage_tip(store: Path) -> None:
    (store / "refs" / "mergescale" / "tip").write_text("0123456789" * 4 + "\n")


def damage_objects(store: Path) -> None:
    shutil.rmtree(store / "objects")


DAMAGES = [damage_pack, damage_index, damage_refs, damage_head, damage_tip, damage_objects]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_replaced_by_a_fresh_one(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """The next commit is found, in a store that git has nothing to say against."""
    repository = Repository(tmp_path / "repo")
    first = repository.commit(GOOD)
    looking = looker(repository.path, tmp_path / "state")
    looking.look()
    damage(looking.store)
    second = repository.commit(BETTER)
    found = looking.finds(known=first, applied=first)
    assert (found.commit, found.files, found.descends) == (second, BETTER, True)
    check = ["git", f"--git-dir={looking.store}", "fsck", "--strict", "--connectivity-only"]
    subprocess.run(check, check=True, capture_output=True)
    assert beside(looking) == {"policy.git", "policy.git-lock", "policy.home"}


def test_a_damaged_store_stays_while_the_remote_has_nothing_better(tmp_path: Path) -> None:
    """What is pinned in it may still be readable."""
    repository = Repository(tmp_path / "repo")
    first = repository.commit(GOOD)
    looking = looker(repository.path, tmp_path / "state")
    looking.look()
    damage_head(looking.store)
    before = objects_files(looking.store)
    repository.move(broken_tree(repository))
    with pytest.raises(Stalled):
        looking.look(known=first, applied=first)
    assert objects_files(looking.store) == before


def objects_files(store: Path) -> set[str]:
    return {str(one.relative_to(store)) for one in store.glob("objects/**/*")}


@pytest.mark.parametrize(
    "left",
    [
        "index.lock",
        "shallow.lock",
        "HEAD.lock",
        "config.lock",
        "packed-refs.lock",
        "gc.pid",
        "refs/mergescale/tip.lock",
        "objects/pack/tmp_pack_0123",
    ],
)
def test_locks_and_leavings_of_killed_processes_are_in_nobodys_way(
    tmp_path: Path, left: str
) -> None:
    """Whoever has the folder's own lock knows that no other process uses it."""
    repository = Repository(tmp_path / "repo")
    first = repository.commit(GOOD)
    looking = looker(repository.path, tmp_path / "state")
    looking.look()
    (looking.store / left).write_text("12345 elsewhere\n")
    (looking.state / "policy.git-new").mkdir()
    (looking.state / "policy.git-fresh" / "objects").mkdir(parents=True)
    (looking.store / "marked").touch()
    repository.commit(BETTER)
    assert looking.finds(known=first, applied=first).files == BETTER
    assert (looking.store / "marked").exists()
    assert not (looking.store / left).exists() or left.startswith("objects")


def test_a_store_that_somebody_else_uses_is_waited_for_and_then_left(tmp_path: Path) -> None:
    """Two servers with one state folder do not destroy each other's store."""
    repository = Repository(tmp_path / "repo")
    first = repository.commit(GOOD)
    looking = looker(repository.path, tmp_path / "state")
    looking.look()
    with (looking.state / "policy.git-lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Transient) as refused:
            looking.look()
        assert refused.value.reason == "StoreLocked"
    assert looking.finds().commit == first


def test_a_swap_that_was_killed_between_its_steps_is_put_right(tmp_path: Path) -> None:
    """The old store is there until the new one is."""
    repository = Repository(tmp_path / "repo")
    first = repository.commit(GOOD)
    looking = looker(repository.path, tmp_path / "state")
    looking.look()
    looking.store.rename(looking.state / "policy.git-old")
    (looking.state / "policy.git-fresh").mkdir()
    (looking.state / "policy.git-old" / "marked").touch()
    assert looking.look(known=first, applied=first).commit == first
    assert (looking.store / "marked").exists()
    assert beside(looking) == {"policy.git", "policy.git-lock", "policy.home"}


def test_the_history_of_a_borrowed_store_ends_where_the_limits_say(tmp_path: Path) -> None:
    """A transfer that is too large ends while it runs, and leaves nothing behind."""
    repository = Repository(tmp_path / "repo")
    first = repository.commit(GOOD)
    limits = Limits(transfer_bytes=100_000)
    looking = looker(repository.path, tmp_path / "state", limits=limits)
    looking.look()
    repository.commit({"large.bin": os.urandom(400_000)})
    with pytest.raises(Stalled) as refused:
        looking.look(known=first, applied=first)
    assert refused.value.reason == "TooLarge"
    assert refused.value.message == (
        "the transfer was stopped at 100000 bytes; limits.transfer_bytes is 100000"
    )
    assert beside(looking) == {"policy.git", "policy.git-lock", "policy.home"}
    assert not list(looking.state.rglob("tmp_pack*"))


def test_a_worker_that_dies_lets_go_of_the_lock(tmp_path: Path) -> None:
    """The system does it, whatever kills the process."""
    held = tmp_path / "policy.git-lock"
    code = (
        "import sys, time; from pathlib import Path; from mergescale.gitops.git.keeping import alone\n"
        "with alone(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "policy.git")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with held.open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        process.send_signal(signal.SIGKILL)
    with held.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_is_too_large_is_not_transferred_at_every_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it is another commit, or there are other limits."""
    repository = Repository(tmp_path / "repo")
    first = repository.commit(GOOD)
    looking = looker(repository.path, tmp_path / "state", limits=Limits(transfer_bytes=100_000))
    looking.look()
    large = repository.commit({"large.bin": os.urandom(400_000)})
    real, seen = shutil.which("git"), tmp_path / "seen"
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$*" >>{seen}\nexec {real} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    for _ in range(3):
        with pytest.raises(Stalled) as refused:
            looking.look(known=first, applied=first)
        assert refused.value.reason == "TooLarge"
    assert sum(" fetch " in line for line in seen.read_text().splitlines()) == 1
    more = looker(repository.path, tmp_path / "state", limits=Limits(transfer_bytes=1_000_000))
    assert more.finds(known=first, applied=first).commit == large


def test_the_oldest_pins_go_when_there_are_too_many(tmp_path: Path) -> None:
    """What is pinned is bounded, and what is in force now is the newest of it."""
    store = Store(tmp_path / "policy.git", "file")
    store.prepare()
    pins = store.path / "refs" / "mergescale" / "applied"
    pins.mkdir()
    for at in range(5):
        (pins / f"{at:040x}").write_text(f"{at:040x}\n")
        os.utime(pins / f"{at:040x}", (at, at))
    store.unpin(2)
    assert pinned(store.path) == {f"{at:040x}" for at in (3, 4)}


def test_pins_move_with_the_store_as_far_as_it_can_be_read(tmp_path: Path) -> None:
    """A commit that was in force and has left the branch is in the fresh store, too."""
    repository = Repository(tmp_path / "repo")
    first = repository.commit(GOOD)
    looking = looker(repository.path, tmp_path / "state")
    looking.look()
    repository.commit(BETTER)
    looking.look(known=first, applied=first)
    damage_tip(looking.store)
    (looking.store / "marked").touch()
    other = repository.commit(BETTER, parent=None)
    assert looking.finds().commit == other
    assert not (looking.store / "marked").exists()
    assert pinned(looking.store) == {first}
    assert first in objects(looking.store)
