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

from mergescale.gitops.errors import ReconcileError
from mergescale.gitops.messages import Found, Unchanged

_EPOCH_S = 1_767_225_600  # 2026-01-01T00:00:00Z


class Repository:
    """A bare repository that is written with plumbing, so that any tree can be made."""

    def __init__(self, path: Path, *, branch: str = "main") -> None:
        self.path = path
        self.branch = branch
        self._index = path / "test-index"
        self._made = 0
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--bare", f"--initial-branch={branch}", str(path))

    def git(self, *words: str, stdin: bytes = b"") -> str:
        """Run git here; return what it printed."""
        when = f"{_EPOCH_S + 60 * self._made} +0000"
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_DIR": str(self.path),
            "GIT_INDEX_FILE": str(self._index),
            "GIT_AUTHOR_NAME": "Ana Example",
            "GIT_AUTHOR_EMAIL": "ana@example.com",
            "GIT_AUTHOR_DATE": when,
            "GIT_COMMITTER_NAME": "Ana Example",
            "GIT_COMMITTER_EMAIL": "ana@example.com",
            "GIT_COMMITTER_DATE": when,
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

        `parent` is a commit to start from instead of the tip, or None for a new root with nothing
        but `files`.
        """
        for name, content in files.items():
            raw = content.encode() if isinstance(content, str) else content
            if raw is None:
                self.git("update-index", "--force-remove", "--", name)
            else:
                blob = self.git("hash-object", "-w", "--stdin", stdin=raw)
                self._stage("100644", blob, name)
        return self._record(subject, parent)

    def link(self, name: str, target: str, subject: str = "link") -> str:
        """Commit a symbolic link."""
        self._stage("120000", self.git("hash-object", "-w", "--stdin", stdin=target.encode()), name)
        return self._record(subject, "tip")

    def gitlink(self, name: str, subject: str = "submodule") -> str:
        """Commit a submodule that points at this repository's own tip."""
        self._stage("160000", self.tip(), name)
        return self._record(subject, "tip")

    def fresh_tree(self) -> None:
        """Forget all files; the next commit holds only what it names."""
        self._index.unlink(missing_ok=True)

    def tip(self) -> str:
        """Return the id of the branch's commit."""
        return self.git("rev-parse", f"refs/heads/{self.branch}")

    def move(self, commit: str) -> None:
        """Point the branch at a commit, forward or not."""
        self.git("update-ref", f"refs/heads/{self.branch}", commit)
        self.git("read-tree", commit)

    def remove(self) -> None:
        """Delete the repository."""
        shutil.rmtree(self.path)

    def _stage(self, mode: str, oid: str, name: str) -> None:
        self.git("update-index", "--add", "--replace", "--cacheinfo", f"{mode},{oid},{name}")

    def _record(self, subject: str, parent: str | None) -> str:
        """Commit the index on the branch."""
        self._made += 1
        if parent == "tip":
            parent = self.tip() if self._made > 1 else None
        parents = ["-p", parent] if parent else []
        commit = self.git("commit-tree", self.git("write-tree"), *parents, "-m", subject)
        self.git("update-ref", f"refs/heads/{self.branch}", commit)
        return commit


class MemoryFetches:
    """The in-memory twin of ``gitops.child.Fetcher``: a branch that is a list of commits.

    Attributes:
        commits: id -> files, oldest first; the last one is the tip.
        trouble: raised by every look while it is set.
        looks: (known, applied) of every look.
        gate: looks wait here; open unless a test closes it.
    """

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, str]] = {}
        self.trouble: ReconcileError | None = None
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

    async def look(self, *, known: str, applied: str) -> Unchanged | Found:
        self.looks.append((known, applied))
        await self.gate.wait()
        if self.trouble is not None:
            raise self.trouble
        tip = list(self.commits)[-1]
        if tip == known:
            return Unchanged(tip)
        return Found(
            commit=tip,
            subject="change the policy",
            author="Ana Example",
            committed_s=_EPOCH_S,
            descends=not applied or applied in self.commits,
            files=self.commits[tip],
            faults=[],
        )

    async def warm(self) -> None:
        self.warmed += 1

    async def close(self) -> None:
        self.closed = True
