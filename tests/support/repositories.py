"""Real git repositories in a temporary folder, with the same object ids every time.

    repository = Repository(tmp_path / "repo")
    first = repository.commit({"policy.hujson": "{}"}, "start")

A value of None removes the file; `link` and `gitlink` make the entries that must be refused.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from mergescale.gitops.errors import ReconcileError, Stalled
from mergescale.gitops.git.messages import Found, Unchanged
from mergescale.gitops.trust.demands import Signatures, Verdict

_EPOCH_S = 1_767_225_600  # 2026-01-01T00:00:00Z


class Repository:
    """A bare repository that is written with ``git fast-import``, so that any tree can be made."""

    def __init__(self, path: Path, *, branch: str = "main") -> None:
        self.path = path
        self.branch = branch
        self._tip: str | None = None
        self._made = 0
        path.mkdir(parents=True)
        self.git(
            "init", "--quiet", "--bare", "--template=", f"--initial-branch={branch}", str(path)
        )

    def git(
        self, *words: str, stdin: bytes = b"", variables: Mapping[str, str] | None = None
    ) -> str:
        """Run git here, with further environment variables; return what it printed."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_DIR": str(self.path),
            "GIT_AUTHOR_NAME": "Ana Example",
            "GIT_AUTHOR_EMAIL": "ana@example.com",
            "GIT_AUTHOR_DATE": self._when,
            "GIT_COMMITTER_NAME": "Ana Example",
            "GIT_COMMITTER_EMAIL": "ana@example.com",
            "GIT_COMMITTER_DATE": self._when,
            **(variables or {}),
        }
        done = subprocess.run(
            ["git", *words], input=stdin, env=environment, capture_output=True, check=True
        )
        return done.stdout.decode().strip()

    def commit(
        self,
        files: Mapping[str, str | bytes | None],
        subject: str = "change the policy",
        *,
        parent: str | None = "tip",
    ) -> str:
        """Change files and commit on the branch; return the commit's id.

        `parent` is a commit to start from instead of the tip, or None for a new root that holds
        nothing but `files`.
        """
        changes = []
        for name, content in files.items():
            if content is None:
                changes.append(b"D %s\n" % name.encode())
            else:
                raw = content.encode() if isinstance(content, str) else content
                changes.append(_file(b"100644", name, raw))
        return self._record(changes, subject, self._tip if parent == "tip" else parent)

    def link(self, name: str, target: str) -> str:
        """Commit a symbolic link."""
        return self._record([_file(b"120000", name, target.encode())], "link", self._tip)

    def gitlink(self, name: str) -> str:
        """Commit a submodule."""
        change = b"M 160000 %s %s\n" % (str(self._tip).encode(), name.encode())
        return self._record([change], "submodule", self._tip)

    def move(self, commit: str) -> None:
        """Point the branch at a commit, forward or not."""
        self.git("update-ref", f"refs/heads/{self.branch}", commit)
        self._tip = commit

    def remove(self) -> None:
        """Delete the repository."""
        shutil.rmtree(self.path)

    @property
    def _when(self) -> str:
        return f"{_EPOCH_S + 60 * self._made} +0000"

    def _record(self, changes: list[bytes], subject: str, parent: str | None) -> str:
        self._made += 1
        who = f"Ana Example <ana@example.com> {self._when}"
        ref = f"refs/heads/{self.branch}"
        head = f"reset {ref}\n\ncommit {ref}\nmark :1\nauthor {who}\ncommitter {who}\n"
        start = f"from {parent}\n" if parent else ""
        stream = [
            head.encode(),
            _data(subject.encode()),
            start.encode(),
            *changes,
            b"get-mark :1\n",
        ]
        done = self.git(
            "fast-import", "--quiet", "--force", "--cat-blob-fd=1", stdin=b"".join(stream)
        )
        self._tip = done
        return done


def _file(mode: bytes, name: str, content: bytes) -> bytes:
    return b"M %s inline %s\n%s" % (mode, name.encode(), _data(content))


def _data(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)


class MemoryFetches:
    """The in-memory twin of ``gitops.git.child.Fetcher``: a branch that is a list of commits.

    Attributes:
        commits: id -> files, oldest first; the last one is the tip.
        trouble: raised by every look while it is set.
        looks: (known, applied) of every look.
        verdict: who vouches for any of the commits.
        gate: looks wait here; open unless a test closes it.
    """

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, str]] = {}
        self.trouble: ReconcileError | None = None
        self.verdict = Verdict(signatures=Signatures.OFF)
        self.looks: list[tuple[str, str]] = []
        self.warmed = 0
        self.closed = False
        self.gate = asyncio.Event()
        self.gate.set()

    def commit(self, policy: str) -> str:
        """Add a commit with this policy.hujson; return its id."""
        oid = f"{len(self.commits) + 1:040x}"
        self.commits[oid] = {"policy.hujson": policy}
        return oid

    async def look(
        self, *, known: str, applied: str, accepted: str = "", past: str = ""
    ) -> Unchanged | Found:
        self.looks.append((known, applied))
        await self.gate.wait()
        if self.trouble is not None:
            raise self.trouble
        tip = list(self.commits)[-1]
        if past:
            tip = next((one for one in self.commits if one.startswith(past)), "")
            if not tip:
                raise Stalled("CommitMissing", "the commit is not in the history")
        if tip == known:
            return Unchanged(tip)
        descends = not applied or tip == accepted or applied in self.commits
        return Found(
            commit=tip,
            subject="change the policy",
            author="Ana Example",
            committed_s=_EPOCH_S,
            descends=descends,
            files=self.commits[tip],
            faults=[],
            verdict=self.verdict if descends else None,
        )

    async def warm(self) -> None:
        self.warmed += 1

    async def close(self) -> None:
        self.closed = True
