"""Keys made by the real programs, and commits signed with them.

ana = SshKey(tmp_path / "ana")
commit = sign(repository, {"policy.hujson": "{}"}, ana)
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest

from support.repositories import Repository


class Key(Protocol):
    """Something that git can sign with."""

    @property
    def options(self) -> list[str]:
        """Git's options, before the command."""
        ...

    @property
    def variables(self) -> Mapping[str, str]:
        """Environment variables for git."""
        ...


@dataclass(slots=True)
class SshKey:
    """An ed25519 key without a passphrase."""

    path: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(self.path)]
        subprocess.run(words, check=True, capture_output=True)

    @property
    def options(self) -> list[str]:
        return ["-c", "gpg.format=ssh", "-c", f"user.signingKey={self.path}"]

    @property
    def public(self) -> str:
        """Type and base64."""
        return " ".join(self.path.with_suffix(".pub").read_text().split()[:2])

    @property
    def fingerprint(self) -> str:
        """As ssh-keygen shows it."""
        words = ["ssh-keygen", "-l", "-f", f"{self.path}.pub"]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[1]

    def signer(self, principal: str = "ana@example.com", options: str = "") -> str:
        """Return its line of an allowed signers file."""
        return " ".join(part for part in (principal, options, self.public) if part) + "\n"


@dataclass(frozen=True, slots=True)
class GpgKey:
    """A key of a `GpgHome`."""

    home: Path
    fingerprint: str
    program: str = "gpg"

    @property
    def options(self) -> list[str]:
        program = f"gpg.program={self.program}"
        return [
            "-c",
            "gpg.format=openpgp",
            "-c",
            program,
            "-c",
            f"user.signingKey={self.fingerprint}",
        ]

    @property
    def variables(self) -> Mapping[str, str]:
        return {"GNUPGHOME": str(self.home)}


@dataclass(frozen=True, slots=True)
class GpgHome:
    """A home of gpg with secret keys."""

    path: Path

    @classmethod
    @contextlib.contextmanager
    def made(cls) -> Iterator[GpgHome]:
        """Make one; no agent is left behind. Without gpg the test is skipped."""
        if shutil.which("gpg") is None:
            pytest.skip("gpg is not installed")
        # The agent's socket lies in it, and the path of a socket is short.
        folder = Path(tempfile.mkdtemp(prefix="gpg"))
        home = cls(folder)
        try:
            yield home
        finally:
            home.run("gpgconf", "--kill", "all")
            shutil.rmtree(folder)

    def run(self, *words: str, stdin: bytes = b"") -> bytes:
        environment = {"PATH": os.environ["PATH"], "GNUPGHOME": str(self.path), "LC_ALL": "C"}
        done = subprocess.run(words, input=stdin, env=environment, check=True, capture_output=True)
        return done.stdout

    def gpg(self, *words: str, stdin: bytes = b"") -> bytes:
        """Run gpg in it."""
        return self.run("gpg", "--batch", "--quiet", "--passphrase", "", *words, stdin=stdin)

    def key(self, who: str, *, long_ago: bool = False) -> GpgKey:
        """Make a key; one of long ago was good in January 2020 only, and signs then."""
        if not long_ago:
            self.gpg("--quick-gen-key", who, "ed25519", "sign", "never")
            return GpgKey(self.path, self._fingerprint(who))
        then = ("--faked-system-time", "20200101T000000")
        self.gpg(*then, "--quick-gen-key", who, "ed25519", "sign", "2020-02-01")
        program = self.path / "gpg-of-then"
        program.write_text(f'#!/bin/sh\nexec gpg {then[0]} 20200110T000000 "$@"\n')
        program.chmod(0o700)
        return GpgKey(self.path, self._fingerprint(who), str(program))

    def public(self, *keys: GpgKey) -> bytes:
        """Return them as a server is given them."""
        return self.gpg("--export", "--armor", *(one.fingerprint for one in keys))

    def revocation(self, key: GpgKey) -> bytes:
        """Return the certificate that gpg made with the key, made usable."""
        made = self.path / "openpgp-revocs.d" / f"{key.fingerprint}.rev"
        return made.read_bytes().replace(b":-----BEGIN", b"-----BEGIN")

    def _fingerprint(self, who: str) -> str:
        listing = self.gpg("--with-colons", "--list-keys", who).decode()
        return next(line.split(":")[9] for line in listing.splitlines() if line[:3] == "fpr")


def sign(
    repository: Repository,
    files: Mapping[str, str],
    key: Key | None,
    *,
    merged: str | None = None,
    **variables: str,
) -> str:
    """Commit on the branch, signed unless there is no key; return the commit's id.

    Args:
        repository: whose branch moves.
        files: what changes.
        key: None to leave it unsigned.
        merged: a second parent.
        **variables: of git, such as ``GIT_COMMITTER_EMAIL``.
    """
    names = ["rev-parse", "--verify", "--quiet", f"refs/heads/{repository.branch}"]
    with contextlib.suppress(subprocess.CalledProcessError):
        parents = [repository.git(*names)]
        return _signed(repository, files, key, [*parents, *([merged] if merged else [])], variables)
    return _signed(repository, files, key, [], variables)


def _signed(
    repository: Repository,
    files: Mapping[str, str],
    key: Key | None,
    parents: list[str],
    variables: Mapping[str, str],
) -> str:
    tree = repository.git("rev-parse", f"{repository.commit(files)}^{{tree}}")
    options, switch, of_key = ([], [], {}) if key is None else (key.options, ["-S"], key.variables)
    made = repository.git(
        *options,
        "commit-tree",
        *switch,
        *(word for parent in parents for word in ("-p", parent)),
        "-m",
        "change the policy",
        tree,
        variables={**of_key, **variables},
    )
    repository.move(made)
    return made
