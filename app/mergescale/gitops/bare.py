"""The only module that touches GitPython: a bare store and the handful of git calls we make.

GitPython leaks resources in long processes and hands its environment on, so this is imported in
the worker only. Every call is a full argument vector with our options first and ``--`` or
``--end-of-options`` before anything that came from configuration or from the repository.

LIMIT(length): all that git is ever asked is in one place, where it can be checked in one reading.

Git's own names: *commit-ish* texts here are full hex object ids or `TIP`, never user input.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from git.cmd import Git
from git.exc import GitCommandError, GitCommandNotFound

#: Where the followed ref is kept in the store.
TIP: Final = "refs/mergescale/tip"

_HEX = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
#: What git says of a commit, and of a path in one, that is not there.
_UNKNOWN = re.compile(r"Not a valid commit name")
_NO_PATH = re.compile(r"path '.*' does not exist in", re.DOTALL)
#: LIMIT: largest commit subject and author that are kept.
_LONGEST_LINE = 200
_LOG_FORMAT = "--format=%H%x00%ct%x00%an%x00%s"
#: A line of a commit's header about somebody (git-fsck checks that it is one).
_IDENTITY = re.compile(
    rb"^(author|committer) [^<>\n]*<([^<>\n]*)> [0-9]+ [+-][0-9]{4}$", re.MULTILINE
)
#: What git says of an object that is not there.
_ABSENT = re.compile(r"could not get object info|Not a valid object name")
#: Signatures are verified by these programs and by no other, whatever they are made with.
_VERIFYING: Final[tuple[str, ...]] = (
    "gpg.program=gpg",
    "gpg.openpgp.program=gpg",
    "gpg.ssh.program=ssh-keygen",
    "gpg.x509.program=false",
    "gpg.minTrustLevel=undefined",
)

_HARDENED: Final[tuple[str, ...]] = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.askPass=",
    "credential.helper=",
    "fetch.fsckObjects=true",
    "transfer.fsckObjects=true",
    "fetch.recurseSubmodules=false",
    "submodule.recurse=false",
    "http.followRedirects=false",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=20",
    "gc.autoDetach=false",
    "maintenance.autoDetach=false",
    "pack.threads=1",
    "pack.windowMemory=64m",
    "protocol.allow=never",
    "protocol.version=2",
    "safe.bareRepository=explicit",
)


class GitFailed(Exception):
    """A git call that ended badly.

    Attributes:
        stderr: for classification, never for people.
        status: exit code; that of a signal is below 0.
    """

    def __init__(self, stderr: str, status: int = 0) -> None:
        super().__init__("git failed")
        self.stderr = stderr
        self.status = status


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a tree: git's mode (six octal digits), type, object id, size in bytes, name."""

    mode: str
    type: str
    oid: str
    size_bytes: int
    name: str


@dataclass(frozen=True, slots=True)
class Commit:
    """What people are told about a commit."""

    oid: str
    committed_s: int
    author: str
    subject: str


@dataclass(frozen=True, slots=True)
class Made:
    """Who made a commit: e-mails, as the commit says them."""

    oid: str
    committer: str
    author: str


class Store:
    """The server's own bare repository; disposable, rebuilt from the remote when in doubt."""

    def __init__(self, path: Path, transport: str) -> None:
        self._path = path
        allowed = f"protocol.{transport}.allow=always"
        self._options = [option for setting in (*_HARDENED, allowed) for option in ("-c", setting)]
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

    def prepare(self) -> None:
        """Make the repository if it is not there."""
        if not (self._path / "HEAD").is_file():
            self._fresh = True
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._run("init", "--quiet", "--bare", "--template=", "--", str(self._path))

    def discard(self) -> None:
        """Remove everything; the next `fetch` transfers and checks all of it again."""
        shutil.rmtree(self._path, ignore_errors=True)

    def fetch(self, url: str, ref: str) -> str:
        """Bring `ref` of the repository at `url` in; return the commit it names."""
        self._run(
            "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head",
            "--end-of-options", url, f"+{ref}:{TIP}",
        )  # fmt: skip
        return self._id(self._run("rev-parse", "--verify", "--end-of-options", f"{TIP}^{{commit}}"))

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
        line = self._run(
            "log", "-1", "--no-show-signature", "--no-mailmap", "--encoding=UTF-8", _LOG_FORMAT,
            self._id(commit), "--",
        )  # fmt: skip
        oid, committed, author, subject = line.decode(errors="replace").rstrip("\n").split("\0", 3)
        return Commit(oid, int(committed), _line(author), _line(subject))

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
        return [_made(oid, contents[oid]) for oid in oids]

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
        trust = (*_VERIFYING, f"gpg.ssh.allowedSignersFile={signers}")
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
        return [_entry(line) for line in listing.split(b"\0") if line]

    def blobs(self, oids: Iterable[str]) -> dict[str, bytes]:
        """Return the contents of the blobs; the caller knows their sizes."""
        return self._contents(oids, b"blob")

    def _contents(self, oids: Iterable[str], kind: bytes) -> dict[str, bytes]:
        wanted = [self._id(oid) for oid in oids]
        with tempfile.TemporaryFile() as questions:
            questions.write("".join(f"{oid}\n" for oid in wanted).encode())
            questions.seek(0)
            answers = self._run("cat-file", "--batch", stdin=questions.fileno())
        return _batch(answers, kind)

    def _run(self, *words: str, stdin: int | None = None) -> bytes:
        place = [] if words[0] == "init" else [f"--git-dir={self._path}"]
        try:
            out = self._git.execute(
                ["git", *place, *self._options, *words],
                istream=stdin,
                stdout_as_string=False,
                strip_newline_in_stdout=False,
                shell=False,
            )
        except GitCommandNotFound:
            raise GitFailed("git is not installed") from None
        except GitCommandError as error:
            # What a signal ends says nothing by itself.
            status = error.status if isinstance(error.status, int) else 0
            said = f"ended by signal {-status}" if status < 0 else ""
            raise GitFailed(f"{error.stderr}{said}", status) from None
        return out

    @staticmethod
    def _id(text: str | bytes) -> str:
        """Return an object id that cannot be anything else."""
        plain = (text if isinstance(text, str) else text.decode("ascii", "replace")).strip()
        if not _HEX.fullmatch(plain):
            raise GitFailed("not an object id")
        return plain


def _entry(line: bytes) -> Entry:
    """Read ``<mode> SP <type> SP <object> SP+ <size> TAB <name>`` (git-ls-tree -l -z)."""
    facts, _, name = line.partition(b"\t")
    mode, kind, oid, size = facts.decode("ascii").split()
    return Entry(mode, kind, oid, 0 if size == "-" else int(size), name.decode(errors="replace"))


def _made(oid: str, commit: bytes) -> Made:
    """Read a commit's header as it is: what git prints of it, it may have converted.

    SPEC(gitformat: commit): header lines, an empty line, the message.
    """
    found = _IDENTITY.findall(commit.partition(b"\n\n")[0])
    if [role for role, _ in found] != [b"author", b"committer"]:
        raise GitFailed("fsck error: not one author and one committer")
    author, committer = (email.decode(errors="replace") for _, email in found)
    return Made(oid, committer, author)


def _batch(answers: bytes, wanted: bytes) -> dict[str, bytes]:
    """Read ``<oid> SP <type> SP <size> LF <contents> LF``, repeated (git-cat-file --batch)."""
    found: dict[str, bytes] = {}
    at = 0
    while at < len(answers):
        end = answers.index(b"\n", at)
        oid, kind, *size = answers[at:end].decode("ascii").split()
        if kind.encode() != wanted:
            raise GitFailed("an object is not of the kind that it must be")
        start = end + 1
        at = start + int(size[0]) + 1
        found[oid] = answers[start : at - 1]
    return found


def _line(text: str) -> str:
    """Return one printable line for people; the committer chose the text."""
    shown = "".join(char if char.isprintable() else " " for char in text)
    return shown[:_LONGEST_LINE]


def child_environment(scratch: Path, transport: str, url: str) -> Mapping[str, str]:
    """Return the variables that git, and what git starts, may see besides PATH.

    Args:
        scratch: an empty folder; becomes HOME and holds git's only configuration file.
        transport: the one protocol that is let through.
        url: a local repository may belong to another account; configuration names it, so it is
            trusted to be read (git-config safe.directory).
    """
    config = scratch / "gitconfig"
    lines = ["[safe]"]
    if transport == "file":
        quoted = url.replace("\\", "\\\\").replace('"', '\\"')
        lines += [f'\tdirectory = "{quoted}"', f'\tdirectory = "{quoted}/.git"']
    config.write_text("\n".join(lines) + "\n")
    return {
        "HOME": str(scratch),
        "LC_ALL": "C",
        "TZ": "UTC",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(config),
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": transport,
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_SSH_COMMAND": "ssh -F /dev/null -oBatchMode=yes -oStrictHostKeyChecking=yes"
        " -oForwardAgent=no -oClearAllForwardings=yes -oPermitLocalCommand=no -oConnectTimeout=10",
        "GIT_SSH_VARIANT": "ssh",
    }
