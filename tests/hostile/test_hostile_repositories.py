"""A zoo of repositories that mean harm, each looked at by a real worker with a real git.

Of each: it is refused with its reason, as often as it is looked at; nothing runs, nothing is
written outside the state folder and nothing is left in it; what was in force stays in force; the
next good commit comes into force.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from mergescale.gitops.errors import Stalled
from mergescale.gitops.git.bare import GitFailed, Store
from mergescale.gitops.git.child import Fetcher
from mergescale.gitops.git.hardening import child_environment
from mergescale.gitops.git.limits import Limits
from mergescale.gitops.git.revisions import Followed
from mergescale.gitops.git.source import Source, Transport
from mergescale.gitops.reconcile import Reconciler
from mergescale.kernel.errors import Invalid
from mergescale.kernel.ids import TailnetName
from mergescale.state.engine import Engine
from support import zoo
from support.clock import FakeClock
from support.journal import MemoryFeed, MemoryJournal
from support.looks import looker
from support.repositories import Repository
from support.zoo import Animal

GOOD: Final = {"policy.hujson": '{"acls": []}'}
BETTER: Final = {"policy.hujson": '{"acls": [], "groups": {}}'}
BAD = "git did not accept the repository's objects"

#: Animal, reason of the status, and what is said: in the message, or of a file.
ANIMALS: Final[list[tuple[str, Animal, str, str]]] = [
    ("link", zoo.link_to_passwords, "Unreadable", "symbolic links are not followed"),
    ("link out", zoo.link_out_of_the_folder, "Unreadable", "symbolic links are not followed"),
    ("submodule", zoo.submodule, "Unreadable", "submodules are not followed"),
    ("gitmodules option", zoo.option_in_gitmodules, "BadObjects", BAD),
    ("gitmodules name", zoo.way_out_in_gitmodules, "BadObjects", BAD),
    ("gitmodules return", zoo.carriage_return_in_gitmodules, "Invalid", "policy.hujson:1:"),
    ("gitmodules link", zoo.linked_gitmodules, "BadObjects", BAD),
    *((f"folder {name!r}", zoo.dotgit(name), "BadObjects", BAD) for name in zoo.DOTGITS),
    ("dot dot", zoo.entries(b".."), "BadObjects", BAD),
    ("dot dot folder", zoo.entries(b"..", mode="40000"), "BadObjects", BAD),
    ("dot", zoo.entries(b"."), "BadObjects", BAD),
    ("slash", zoo.entries(b"a/b.hujson"), "BadObjects", BAD),
    ("no name", zoo.entries(b""), "BadObjects", BAD),
    ("twice", zoo.entries(b"policy.hujson", b"policy.hujson"), "BadObjects", BAD),
    ("order", zoo.entries(b"policy.hujson", b"a.hujson"), "BadObjects", BAD),
    ("mode", zoo.entries(b"policy.hujson", mode="100666"), "Invalid", "policy.hujson:1:"),
    ("device", zoo.entries(b"policy.hujson", mode="20666"), "Unreadable", "are not followed"),
    ("deep", zoo.deep(10_000), "Unreadable", "limits.depth is 64"),
    ("deeper", zoo.deep(65), "Unreadable", "folders are nested 65 deep; limits.depth is 64"),
    ("long path", zoo.long_path, "Unreadable", "limits.path_bytes is 1024"),
    ("many files", zoo.many_files, "Unreadable", "limits.files is 50000"),
    ("tree of trees", zoo.tree_of_trees, "Unreadable", "limits.files is 50000"),
    ("2 GiB", zoo.two_gigabytes, "TooLarge", "2147483649 bytes; limits.object_bytes is 33554432"),
    ("deltas", zoo.deltas_of_deltas, "TooLarge", "268435457 bytes; limits.object_bytes"),
    ("false name", zoo.falsely_named, "BadObjects", BAD),
    ("torn pack", zoo.torn_pack, "RefMissing", "does not hand out the commit"),
    ("missing file", zoo.missing_file, "BadObjects", BAD),
    ("another root", zoo.another_root, "HistoryRewritten", "it is followed forward only"),
    ("branch deleted", zoo.branch_deleted, "RefMissing", "the branch or tag does not exist"),
    ("emptied", zoo.emptied, "Invalid", ""),
    ("no commit", zoo.branch_is_a_file, "NoCommit", "does not name a commit"),
    ("odd names", zoo.odd_names, "Unreadable", "the file's name holds odd characters"),
    ("no text", zoo.no_text, "Unreadable", "the file is not UTF-8 from here on"),
    ("traps", zoo.traps, "Invalid", "policy.hujson:1:"),
]


#: What is left of a look, beside the repository and beside the store.
AROUND: Final = ({"repo", "state"}, {"policy.git", "policy.git-lock", "policy.home"})


@dataclass(slots=True)
class Zoo:
    """A server's part that follows one repository, with everything around it in sight."""

    folder: Path
    repository: Repository
    reconciler: Reconciler
    engine: Engine

    @property
    def in_force(self) -> str:
        deployment = self.engine.snapshot.deployment
        return "" if deployment is None else deployment.commit

    @property
    def said(self) -> tuple[str, str]:
        """Reason and everything that is said of it."""
        trouble = self.reconciler.trouble
        assert trouble is not None
        problems = [one.diagnostic.message for one in self.reconciler.status.problems]
        return trouble.reason, "; ".join([trouble.message, *problems])

    @property
    def surroundings(self) -> tuple[set[str], set[str]]:
        """What lies beside the repository, and beside the store."""
        outside = {one.name for one in self.folder.iterdir()}
        return outside, {one.name for one in (self.folder / "state").iterdir()}


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Zoo]:
    repository = Repository(folder / "repo")
    source = Source.parse(str(repository.path))
    engine = await Engine.open(TailnetName("default"), MemoryJournal(), MemoryFeed(), FakeClock())
    fetcher = Fetcher(source, folder / "state" / "policy.git")
    running = asyncio.create_task(engine.run())
    try:
        yield Zoo(folder, repository, Reconciler(engine, source, fetcher, FakeClock()), engine)
    finally:
        await fetcher.close()
        engine.stop()
        await running


def objects(store: Path) -> str:
    """Return the ids of all that is in a store, and check that git finds it sound."""
    place = f"--git-dir={store}"
    subprocess.run(["git", place, "fsck", "--strict"], check=True, capture_output=True)
    words = ["git", place, "cat-file", "--batch-all-objects", "--batch-check"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("animal", "reason", "said"),
    [pytest.param(*others, id=name) for name, *others in ANIMALS],
)
@pytest.mark.timeout(120)
def test_it_is_refused_and_nothing_else_happens(
    tmp_path: Path, animal: Animal, reason: str, said: str
) -> None:
    """Twice, as what is refused once must not be known the second time."""
    asyncio.run(_refused(tmp_path, animal, reason, said))


async def _refused(tmp_path: Path, animal: Animal, reason: str, said: str) -> None:
    canary = tmp_path / "canary"
    async with opened(tmp_path) as here:
        first = here.repository.commit(GOOD)
        await here.reconciler.sync()
        assert here.in_force == first
        store = tmp_path / "state" / "policy.git"
        before = objects(store)
        animal(here.repository, canary)
        for _ in range(2):
            await here.reconciler.sync(retry=True)
            assert here.said[0] == reason, here.said
            assert said in here.said[1]
            assert here.said[1].isprintable()
        assert here.in_force == first
        assert here.surroundings == AROUND
        assert not canary.exists()
        if reason not in {"Invalid", "Unreadable"} or "limits." in said:
            assert objects(store) == before
        here.repository.move(first)
        better = here.repository.commit(BETTER)
        await here.reconciler.sync()
        assert (here.in_force, here.reconciler.trouble) == (better, None)
        assert objects(store) != before


def test_many_bombs_within_the_limits_end_with_the_time(tmp_path: Path) -> None:
    """Sixty gibibytes of which no object is too large: the clock ends it, and little memory is used."""
    repository = Repository(tmp_path / "repo")
    repository.commit(GOOD)
    zoo.many_small_bombs(repository, tmp_path)
    code = (
        "import json, resource, sys; from pathlib import Path\n"
        "from mergescale.gitops.errors import ReconcileError\n"
        "from support.looks import looker\n"
        "here = looker(Path(sys.argv[1]), Path(sys.argv[2]), timeout_s=3)\n"
        "try: here.look()\n"
        "except ReconcileError as error: said = error.reason\n"
        "most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss\n"
        "print(json.dumps([said, most]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    words = [sys.executable, "-c", code, str(repository.path), str(tmp_path / "state")]
    done = subprocess.run(words, env=environment, capture_output=True, check=True)
    reason, most_kib = json.loads(done.stdout)
    assert reason == "Timeout"
    assert most_kib < 400 << 10


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(objects=3), "4 objects were transferred at once; limits.objects is 3"),
        (Limits(commits=2), "the history has more commits; limits.commits is 2"),
        (Limits(files=1), "the commit has more files and folders; limits.files is 1"),
        (Limits(depth=1), "folders are nested 2 deep; limits.depth is 1"),
        (Limits(path_bytes=12), "a path has more than 12 bytes; limits.path_bytes is 12"),
    ],
)
def test_each_limit_says_its_name(tmp_path: Path, limits: Limits, said: str) -> None:
    """And what was found, where that is known."""
    repository = Repository(tmp_path / "repo")
    repository.commit(GOOD)
    if limits.commits < Limits().commits:
        repository.commit(BETTER)
        repository.commit(GOOD)
    else:
        repository.commit({"policy.d/a.hujson": "{}"}, parent=None)
    if limits.objects < Limits().objects:
        assert len(repository.git("rev-list", "--objects", "main").splitlines()) == 4
    found = looker(repository.path, tmp_path / "state", limits=limits).finds()
    assert [(one.path, one.code, one.message) for one in found.faults] == [
        ("", "repository.too-large", said)
    ]
    assert (found.files, found.verdict) == ({}, None)


def test_a_list_of_refs_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    """The remote chooses how many there are."""
    repository = Repository(tmp_path / "repo")
    tip = repository.commit(GOOD)
    lines = "".join(f"{tip} refs/tags/v1.0.{at}\n" for at in range(3_000))
    (repository.path / "packed-refs").write_text(f"# pack-refs with: sorted\n{lines}")
    ref = Followed.parse(semver="1.x")
    limits = Limits(refs_bytes=50_000)
    with pytest.raises(Stalled) as refused:
        looker(repository.path, tmp_path / "state", ref=ref, limits=limits).look()
    assert refused.value.reason == "TooLarge"
    assert refused.value.message.endswith("limits.refs_bytes is 50000")


#: Words that something on the way may take for an option, a variable, a command or another place.
WORDS: Final = [
    "--upload-pack=touch CANARY", "--upl=touch CANARY", "-utouch CANARY", "-u", "--", "--output=x",
    "--exec=touch CANARY", "-oProxyCommand=touch CANARY", "-ctouch", "--config-env=x", "$HOME/x",
    "${HOME}", "~root/x", "~/x", "%ENV%", "`touch CANARY`", "$(touch CANARY)", "x;touch CANARY",
    "x|touch CANARY", "x\ntouch CANARY", "x\0y", "x y", "'", '"', "\\", "*", "?", "[x]", "x..y",
    "../x", "../../config", "x/../../y", "/etc/passwd", "x.lock", "@{u}", "@", "HEAD", "x:y", "+x",
    "^x", "x~1", "x^{}", "refs/../config", "refs/heads/x:refs/mergescale/tip", "\u202ex", "\xff",
    "ext::sh -c touch% CANARY", "file:///etc", "x@{1}", ".git", "x/.git/config", ":(top)x", ":/x",
]  # fmt: skip


def recorder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a `git` first on PATH that writes down each of its arguments; return where."""
    real, seen = shutil.which("git"), folder / "seen"
    program = folder / "bin" / "git"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nprintf "%s\\0" "$@" "" >>{seen}\nexec {real} "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return seen


#: Which of them are names all the same, and reach git as nothing else.
ACCEPTED: Final = {
    "url": {"/etc/passwd", "file:///etc", "../x", "../../config", "x:y"},
    "branch": set[str](),
    "tag": set[str](),
    "semver": {"*"},
    "commit": set[str](),
    "folder": {"HEAD", "x..y", "x.lock"},
}


@pytest.mark.parametrize("place", ACCEPTED)
def test_words_that_mean_something_elsewhere_do_not_pass_the_grammar(place: str) -> None:
    """Nothing of the configuration reaches git before it did; what is refused is not repeated."""
    accepted: set[str] = set()
    for word in WORDS:
        try:
            source = Source.parse(
                word if place == "url" else "/srv/git",
                ref="main" if place in {"url", "folder"} else Followed.parse(**{place: word}),
                folder=word if place == "folder" else "",
            )
        except Invalid as error:
            repeated = word in error.message and len(word) > 2 and word != "HEAD"
            accepted |= {f"repeated: {word}"} if repeated else set()
            continue
        accepted.add(word)
        assert source.url.startswith("/") or source.transport is Transport.SSH
    assert accepted == ACCEPTED[place]


@pytest.mark.parametrize(
    "word",
    [
        "$HOME", "${HOME}", "~root", "%ENV%", "`touch CANARY`", "$(touch CANARY)", "x;touch CANARY",
        "x|touch CANARY", "-utouch CANARY", "--upload-pack=touch CANARY", "ext::sh -c touch% CANARY",
        "'", '"', "\\", "*", "#", "x:y",
    ],
)  # fmt: skip
def test_a_path_of_such_words_reaches_git_as_one_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    """After the end of options, letter by letter; and the repository of that name is found."""
    canary = tmp_path / "canary"
    place = tmp_path / word.replace("CANARY", canary.name)
    repository = Repository(place)
    commit = repository.commit(GOOD)
    monkeypatch.chdir(tmp_path)
    seen = recorder(tmp_path / "spy", monkeypatch)
    assert looker(place, tmp_path / "state").finds().commit == commit
    asked = [one.split("\0") for one in seen.read_text().split("\0\0")]
    reached = [one for one in asked if {"ls-remote", "fetch"} & set(one) and str(place) in one]
    assert len(reached) == 2
    for words in reached:
        assert words.index("--end-of-options") == words.index(str(place)) - 1
    assert not canary.exists()


#: Transports that git has, or would look for a program of.
REFUSED: Final = [
    "ext::touch CANARY", "EXT::touch CANARY", "ext://touch CANARY", "fd::17", "git://127.0.0.1:9/x",
    "http://127.0.0.1:9/x", "ftp://127.0.0.1:9/x", "ssh://127.0.0.1:9/x", "foo::bar",
    "https://127.0.0.1:9/x",
]  # fmt: skip


@pytest.mark.parametrize("url", REFUSED[:-3])
def test_the_parser_lets_no_other_transport_through(url: str) -> None:
    """The first layer: git is not called."""
    with pytest.raises(Invalid):
        Source.parse(url)


@pytest.mark.parametrize("url", REFUSED)
def test_configuration_of_each_call_lets_no_other_transport_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """The second layer: by itself, for a parser that would let everything through."""
    monkeypatch.delenv("GIT_ALLOW_PROTOCOL", raising=False)
    store = Store(tmp_path / "policy.git", "file")
    store.prepare()
    canary = tmp_path / "canary"
    with pytest.raises(GitFailed) as refused:
        store.listing(url.replace("CANARY", str(canary)), ["refs/heads/main"], 1 << 20)
    assert "not allowed" in refused.value.stderr
    assert not canary.exists()


@pytest.mark.parametrize("url", REFUSED)
def test_the_environment_lets_no_other_transport_through(tmp_path: Path, url: str) -> None:
    """The third layer: by itself, for a git that is called without our options."""
    canary = tmp_path / "canary"
    place = url.replace("CANARY", str(canary))
    done = subprocess.run(
        ["git", "-c", "protocol.allow=always", "ls-remote", "--end-of-options", place],
        env={"PATH": os.environ["PATH"], **child_environment(tmp_path, "file", "/srv/git")},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode != 0
    assert "not allowed" in done.stderr
    assert not canary.exists()
