"""A bare store and the handful of git calls we make.

All that git is ever asked is here, to be checked in one reading. GitPython leaks resources in long
processes and hands its environment on, so this and `running`, the only modules that touch it, are
imported in the worker only. Every call is a full argument vector with our options first and ``--``
or ``--end-of-options`` before anything that came from configuration or from the repository.

Git's own names: *commit-ish* texts here are full hex object ids or `TIP`, never user input.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Final

from git.cmd import Git
from git.exc import GitCommandError, GitCommandNotFound

from mergescale.gitops.git import printed
from mergescale.gitops.git.hardening import HARDENED, VERIFYING
from mergescale.gitops.git.printed import Commit, Entry, Made
from mergescale.gitops.git.running import GitFailed, run, stream

__all__ = ["APPLIED", "TIP", "GitFailed", "Store"]

#: Where the newest commit is kept in the store; in a quarantine, what was fetched, not peeled.
TIP: Final = "refs/mergescale/tip"
#: Below it, under their ids, the commits that were in force.
APPLIED: Final = "refs/mergescale/applied"

_HEX = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
#: What git says of a commit, and of a path in one, that is not there.
_UNKNOWN = re.compile(r"Not a valid commit name")
_NO_PATH = re.compile(r"path '.*' does not exist in", re.DOTALL)
#: LIMIT: what one git call may print; eight watched megabytes and their headers are the most.
_MOST_PRINTED = 64 << 20
#: SPEC(gitrepository-layout): the least that is a bare repository, as ``git init`` makes it.
_FOLDERS: Final = ("objects/info", "objects/pack", "refs/heads", "refs/mergescale")
_FILES: Final = {
    "HEAD": "ref: refs/heads/none\n",
    "config": "[core]\n\trepositoryformatversion = 0\n\tbare = true\n",
}
#: What git says of an object that is not there.
_ABSENT = re.compile(r"could not get object info|Not a valid object name")


class Store:
    """The server's own bare repository; disposable, rebuilt from the remote when in doubt."""

    def __init__(self, path: Path, transport: str) -> None:
        self._path = path
        allowed = f"protocol.{transport}.allow=always"
        self._options = [option for setting in (*HARDENED, allowed) for option in ("-c", setting)]
        self._git = Git(str(path.parent))
        self._fresh = False

    @classmethod
    def borrowed(cls, folder: Path, scratch: Path) -> Store:
        """Open somebody's own repository: what is made goes to `scratch`, the rest is only read.

        Args:
            folder: in its work tree, or the bare repository itself.
            scratch: an empty folder for new objects.

        Raises:
            GitFailed: there is no repository.
        """
        git = Git(str(folder))
        try:
            place, objects = (
                git.execute(["git", "rev-parse", *words])
                for words in (
                    ("--absolute-git-dir",),
                    ("--path-format=absolute", "--git-path", "objects"),
                )
            )
        except (GitCommandNotFound, GitCommandError) as error:
            raise GitFailed(str(error.stderr or "")) from None
        store = cls(Path(str(place)), "file")
        store._git.update_environment(
            GIT_OBJECT_DIRECTORY=str(scratch), GIT_ALTERNATE_OBJECT_DIRECTORIES=str(objects)
        )
        return store

    def resolve(self, name: str) -> str:
        """Return the commit that a name means: a branch, a tag, ``HEAD``, an id.

        Raises:
            GitFailed: it means none.
        """
        return self._id(
            self._run("rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}")
        )

    def tree(self, commit: str) -> str:
        """Return the tree of a commit."""
        return self._id(self._run("rev-parse", "--verify", f"{self._id(commit)}^{{tree}}"))

    def merged(self, base: str, head: str) -> str | None:
        """Return the tree that merging `head` into `base` makes; None when they conflict.

        Raises:
            GitFailed: git could not try.
        """
        try:
            made = self._run("merge-tree", "--write-tree", self._id(base), self._id(head))
        except GitFailed as failed:
            # SPEC(git-merge-tree): 1 for conflicts.
            if failed.status == 1:
                return None
            raise
        return self._id(made)

    def conflicts(self, base: str, head: str) -> list[str]:
        """Return the paths for which `merged` returned None.

        Raises:
            GitFailed: git could not try.
        """
        words = ("merge-tree", "--write-tree", "--name-only", "--no-messages", "-z")
        said = b""
        try:
            for piece in stream(
                self._git, self._words((*words, self._id(base), self._id(head))), most=_MOST_PRINTED
            ):
                said += piece
        except GitFailed as failed:
            if failed.status != 1:
                raise
        # The tree comes first.
        return [name.decode(errors="replace") for name in said.split(b"\0")[1:] if name]

    def prepare(self) -> None:
        """Make the repository if it is not there."""
        if (self._path / "HEAD").is_file():
            return
        self._fresh = True
        # Elsewhere first: what is there is whole, whenever this is killed.
        made = self._path.with_name(f"{self._path.name}-made")
        for place in (made, self._path):
            shutil.rmtree(place, ignore_errors=True)
        made.mkdir(mode=0o700, parents=True)
        for folder in _FOLDERS:
            (made / folder).mkdir(parents=True)
        for name, text in _FILES.items():
            (made / name).write_text(text)
        made.replace(self._path)

    def discard(self) -> None:
        """Remove everything."""
        shutil.rmtree(self._path, ignore_errors=True)

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._path

    @property
    def whole(self) -> bool:
        """Say whether all that it has of a history was transferred just now."""
        return self._fresh

    def build_on(self, store: Store) -> None:
        """Read what another store has as if it were here; a `fetch` does not transfer it again."""
        self._fresh = not store.has(TIP)
        borrowed = f"{store.path.absolute()}/objects\n"
        (self._path / "objects" / "info" / "alternates").write_text(borrowed)

    def has(self, ref: str) -> bool:
        """Say whether there is such a ref; nothing is said about what it names."""
        # Refs of a store are files of their own: it never packs them.
        return (self._path / ref).is_file()

    def tip(self) -> str:
        """Return the newest commit that came in, empty before there is one."""
        return self._id((self._path / TIP).read_bytes()) if self.has(TIP) else ""

    def listing(self, url: str, patterns: Iterable[str], most: int) -> dict[str, str]:
        """Return the refs of the repository at `url`: full name -> object id.

        Args:
            url: of the repository.
            patterns: what to ask for; the remote may list more.
            most: bytes that the list may have.

        Raises:
            GitFailed: the remote did not list them, or too many.
        """
        listed = self._run("ls-remote", "--quiet", "--end-of-options", url, *patterns, most=most)
        pairs = (line.partition(b"\t") for line in listed.splitlines())
        return {name.decode(errors="replace"): self._id(oid) for oid, _, name in pairs}

    def fetch(self, url: str, ref: str) -> str:
        """Bring `ref` of the repository at `url` in; return the commit it names.

        Raises:
            GitFailed: git could not; "not a commit" if it names something else.
        """
        self._run(
            "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head",
            "--no-auto-maintenance", "--end-of-options", url, f"+{ref}:{TIP}",
        )  # fmt: skip
        if not self.has(TIP):
            # Git only warns of it, and calls that a success.
            raise GitFailed("shallow update not allowed")
        return self._id(self._run("rev-parse", "--verify", "--end-of-options", f"{TIP}^{{commit}}"))

    def adopt(self, quarantine: Store, commit: str, applied: str) -> None:
        """Take over what was checked, and point the tip at it.

        The same way git takes over what is pushed: packs first, their indexes last, then the ref.

        Args:
            quarantine: builds on this store; is of no use afterwards.
            commit: the new tip.
            applied: commit in force, which is pinned; empty for none, or one that is not here.
        """
        packs = self._path / "objects" / "pack"
        packs.mkdir(parents=True, exist_ok=True)
        for suffix in (".pack", ".rev", ".idx"):
            for file in (quarantine.path / "objects" / "pack").glob(f"pack-*{suffix}"):
                file.replace(packs / file.name)
        _settle(packs)
        pins = f"update {APPLIED}/{self._id(applied)} {applied}\n" if applied else ""
        with tempfile.TemporaryFile() as orders:
            orders.write(f"{pins}update {TIP} {self._id(commit)}\n".encode())
            orders.seek(0)
            self._run("update-ref", "--no-deref", "--stdin", stdin=orders.fileno())

    def commits(self, commit: str, most: int) -> int:
        """Return how many commits a history has, `most` + 1 if it has more."""
        count = self._run("rev-list", "--count", f"--max-count={most + 1}", self._id(commit), "--")
        return int(count)

    def names(self, commit: str) -> Generator[bytes, None, None]:
        """Yield the paths of everything in a commit, folders before what they hold.

        NUL after each, in pieces of any size; whoever stops listening ends it.
        """
        words = ("ls-tree", "-r", "-t", "-z", "--name-only", self._id(commit), "--")
        return stream(self._git, self._words(words), most=1 << 40)

    @property
    def packs(self) -> int:
        """How many packs there are."""
        return sum(1 for _ in (self._path / "objects" / "pack").glob("*.pack"))

    def inherit(self, old: Store) -> None:
        """Take over the pins of a store that is in doubt, as far as it can be read."""
        here = self._git.custom_environment(GIT_ALLOW_PROTOCOL="file")
        with contextlib.suppress(GitFailed), here:
            self._run(
                "-c", "protocol.file.allow=always", "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head",
                "--no-auto-maintenance", "--end-of-options", str(old.path),
                f"+{APPLIED}/*:{APPLIED}/*",
            )  # fmt: skip

    def unpin(self, most: int) -> None:
        """Let go of the oldest pins, so that there are no more than `most`."""
        pins = sorted((self._path / APPLIED).glob("*"), key=lambda one: one.stat().st_mtime_ns)
        for pin in pins[: max(0, len(pins) - most)]:
            pin.unlink()

    def collect(self) -> None:
        """Make one pack of all that is pinned, and drop the rest."""
        self._run("gc", "--quiet", "--prune=now")

    def descends(self, commit: str, ancestor: str) -> bool:
        """Say whether `ancestor` is known and in the history of `commit`.

        Raises:
            GitFailed: git could not tell.
        """
        try:
            self._run("merge-base", "--is-ancestor", self._id(ancestor), self._id(commit))
        except GitFailed as failed:
            # SPEC(git-merge-base --is-ancestor): 1 says no. So does an ancestor that was not among
            # all that was just transferred; one that an old store lacks may be unreadable.
            if failed.status == 1 or (self._fresh and _UNKNOWN.search(failed.stderr)):
                return False
            raise
        return True

    def describe(self, commit: str) -> Commit:
        """Return what people are told about a commit."""
        words = ("--no-show-signature", "--no-mailmap", "--encoding=UTF-8", printed.LOG_FORMAT)
        return printed.commit(self._run("log", "-1", *words, self._id(commit), "--"))

    def holds(self, commit: str) -> bool:
        """Say whether the commit is here.

        Raises:
            GitFailed: git could not tell.
        """
        try:
            kind = self._run("cat-file", "-t", self._id(commit))
        except GitFailed as failed:
            if _ABSENT.search(failed.stderr):
                return False
            raise
        return kind.strip() == b"commit"

    def made(self, commit: str, *, since: str | None, most: int) -> list[Made]:
        """Return who made the commit and the ones in its history that `since` does not have.

        Args:
            commit: the newest, which comes first.
            since: None for the newest only.
            most: how many at most.
        """
        span = ["-1"] if since is None else [f"--max-count={most}", f"^{self._id(since)}"]
        listing = self._run("rev-list", "--topo-order", *span, self._id(commit), "--")
        oids = [self._id(line) for line in listing.splitlines()]
        contents = self._contents(oids, b"commit")
        return [printed.made(oid, contents[oid]) for oid in oids]

    def verified(
        self, commit: str, *, signers: Path, environment: Mapping[str, str]
    ) -> tuple[int, str]:
        """Return git's exit status and words about the signature of a commit.

        SPEC(git-verify-commit): 0 if it is good, 1 if not; nothing is said of what is not signed.

        Args:
            commit: its id.
            signers: an allowed signers file.
            environment: of gpg.
        """
        trust = (*VERIFYING, f"gpg.ssh.allowedSignersFile={signers}")
        options = [option for setting in trust for option in ("-c", setting)]
        words = ("verify-commit", "--raw", self._id(commit))
        status, _, said = self._git.execute(
            ["git", f"--git-dir={self._path}", *self._options, *options, *words],
            env=dict(environment),
            with_extended_output=True,
            with_exceptions=False,
            shell=False,
        )
        return int(status), str(said)

    def entries(self, commit: str, folder: str) -> list[Entry] | None:
        """Return what the folder holds at that commit; None when it is no folder there.

        Raises:
            GitFailed: git could not tell.
        """
        tree = f"{self._id(commit)}:{folder}"
        try:
            kind = self._run("cat-file", "-t", tree)
        except GitFailed as failed:
            if _NO_PATH.search(failed.stderr):
                return None
            raise
        if kind.strip() != b"tree":
            return None
        listing = self._run("ls-tree", "-l", "-z", tree, "--")
        return [printed.entry(line) for line in listing.split(b"\0") if line]

    def blobs(self, oids: Iterable[str]) -> dict[str, bytes]:
        """Return the contents of the blobs; the caller knows their sizes."""
        return self._contents(oids, b"blob")

    def _contents(self, oids: Iterable[str], kind: bytes) -> dict[str, bytes]:
        wanted = [self._id(oid) for oid in oids]
        with tempfile.TemporaryFile() as questions:
            questions.write("".join(f"{oid}\n" for oid in wanted).encode())
            questions.seek(0)
            answers = self._run("cat-file", "--batch", stdin=questions.fileno())
        return printed.contents(answers, kind)

    def _run(self, *words: str, stdin: int | None = None, most: int = _MOST_PRINTED) -> bytes:
        return run(self._git, self._words(words), stdin=stdin, most=most)

    def _words(self, words: tuple[str, ...]) -> list[str]:
        return [f"--git-dir={self._path}", *self._options, *words]

    @staticmethod
    def _id(text: str | bytes) -> str:
        """Return an object id that cannot be anything else."""
        plain = (text if isinstance(text, str) else text.decode("ascii", "replace")).strip()
        if not _HEX.fullmatch(plain):
            raise GitFailed("not an object id")
        return plain


def _settle(folder: Path) -> None:
    """Have the names in a folder last before anything refers to them."""
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(place)
    finally:
        os.close(place)
