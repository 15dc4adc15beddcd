"""The child process: one request on stdin, one reply on stdout, then gone.

Started by ``child.py`` in its own session with a scrubbed environment. It limits itself before it
reads the request, so git and whatever git starts inherit the limits.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from mergescale.gitops.bare import Entry, GitFailed, Store, child_environment
from mergescale.gitops.messages import Fault, Found, Reply, Request, Unchanged
from mergescale.gitops.sayings import MISSING, UNWRITABLE, blamed, classified
from mergescale.gitops.signatures import verify
from mergescale.gitops.trust import Verdict

#: LIMIT: bytes of address space, of one file, seconds of processor time, open files.
_RLIMITS: Final = (
    (resource.RLIMIT_AS, 2 << 30),
    (resource.RLIMIT_FSIZE, 512 << 20),
    (resource.RLIMIT_CPU, 120),
    (resource.RLIMIT_NOFILE, 256),
    (resource.RLIMIT_CORE, 0),
)
#: LIMIT: one file, all files, number of files; a policy is text that people review.
MAX_FILE_BYTES: Final = 1 << 20
MAX_TOTAL_BYTES: Final = 8 << 20
MAX_FILES: Final = 256

_SUFFIX = ".hujson"
_FRAGMENTS = "policy.d"
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_REGULAR = {"100644", "100755"}
#: Modes that git has besides files (git-ls-tree): code and message.
_KINDS = {
    "120000": ("repository.symlink", "symbolic links are not followed"),
    "160000": ("repository.submodule", "submodules are not followed"),
}


def answer(request: Request) -> Reply:
    """Fetch and read; a store in doubt is thrown away and made anew, once."""
    if request.transport == "file" and not Path(request.url).is_dir():
        return MISSING
    store = Store(Path(request.store), request.transport)
    try:
        return _look(request, store)
    except GitFailed as first:
        if (known := classified(first.stderr)) is not None:
            return known
    # SPEC(git-config fetch.fsckObjects): a fetch that fails its checks may leave bad objects
    # behind, and the next fetch would not check them again.
    store.discard()
    try:
        return _look(request, store)
    except GitFailed as second:
        store.discard()
        return blamed(second.stderr)


def _look(request: Request, store: Store) -> Reply:
    store.prepare()
    commit = store.fetch(request.url, request.ref)
    if commit == request.known:
        return Unchanged(commit)
    about = store.describe(commit)
    free = not request.applied or commit == request.accepted
    descends = free or store.descends(commit, request.applied)
    verdict = _verdict(request, store, commit) if descends else None
    wanted = verdict is not None and not verdict.reason
    files, faults = read_files(store, commit, request.folder) if wanted else ({}, [])
    return Found(
        commit=commit,
        subject=about.subject,
        author=about.author,
        committed_s=about.committed_s,
        descends=descends,
        files=files,
        faults=faults,
        verdict=verdict,
    )


def _verdict(request: Request, store: Store, commit: str) -> Verdict:
    return verify(
        store,
        commit,
        applied=request.applied,
        demands=request.demands,
        scratch=Path(request.store).with_suffix(".trust"),
        now=datetime.now(UTC),  # noqa: TID251 - by which ssh-keygen and gpg go
    )


def read_files(store: Store, commit: str, folder: str) -> tuple[dict[str, str], list[Fault]]:
    """Return the texts of the watched folder and what is wrong with the rest.

    Args:
        store: where it is read.
        commit: a commit or a tree, by its id.
        folder: empty for all of it.
    """
    entries = store.entries(commit, folder)
    if entries is None:
        return {}, [Fault(folder, "repository.folder", "the watched folder is not in this commit")]
    entries = [*entries, *_fragments(store, commit, folder, entries)]
    wanted = [entry for entry in entries if entry.name.lower().endswith(_SUFFIX)]
    faults = list(_refused(wanted))
    if any(one.name == _FRAGMENTS and one.type != "tree" for one in entries):
        message = f"{_FRAGMENTS} is not a folder"
        faults.append(Fault(_FRAGMENTS, "repository.kind", message, "put policy files into it"))
    if faults:
        return {}, faults
    contents = store.blobs(entry.oid for entry in wanted)
    files: dict[str, str] = {}
    for entry in wanted:
        try:
            files[entry.name] = contents[entry.oid].decode("utf-8")
        except UnicodeDecodeError as error:
            faults.append(_undecodable(entry.name, contents[entry.oid], error.start))
    return files, faults


def _fragments(store: Store, commit: str, folder: str, entries: Sequence[Entry]) -> Iterator[Entry]:
    """Yield what ``policy.d`` holds, under its path in the watched folder."""
    if not any(entry.name == _FRAGMENTS for entry in entries):
        return
    place = f"{folder}/{_FRAGMENTS}" if folder else _FRAGMENTS
    for entry in store.entries(commit, place) or ():
        yield replace(entry, name=f"{_FRAGMENTS}/{entry.name}")


def _refused(wanted: Sequence[Entry]) -> Iterator[Fault]:
    """Yield what is not a plain small file with a plain name; nothing of it is read."""
    if len(wanted) > MAX_FILES or sum(entry.size_bytes for entry in wanted) > MAX_TOTAL_BYTES:
        message = f"the folder holds more than {MAX_FILES} files or {MAX_TOTAL_BYTES} bytes"
        yield Fault("", "repository.too-large", message)
        return
    for entry in wanted:
        name = _printable(entry.name)
        if not _NAME.fullmatch(entry.name.removeprefix(f"{_FRAGMENTS}/")):
            message = "the file's name holds odd characters"
            help_ = "use letters, digits, dots, dashes and underscores"
            yield Fault(name, "repository.name", message, help_)
        elif entry.mode not in _REGULAR:
            code, message = _KINDS.get(entry.mode, ("repository.kind", "this is not a file"))
            yield Fault(name, code, message, "put the file itself here")
        elif entry.size_bytes > MAX_FILE_BYTES:
            message = f"the file has {entry.size_bytes} bytes, the limit is {MAX_FILE_BYTES}"
            yield Fault(name, "repository.too-large", message)


def _printable(name: str) -> str:
    """Return a name that is safe in a terminal and not too long to read."""
    shown = (char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name[:80])
    return "".join(shown)


def _undecodable(name: str, content: bytes, at: int) -> Fault:
    """Say where a file stops being UTF-8."""
    before = content[:at].decode("utf-8")
    line = before.count("\n") + 1
    column = len(before) - (before.rfind("\n") + 1) + 1
    message = "the file is not UTF-8 from here on"
    return Fault(name, "repository.encoding", message, "save it as UTF-8", line, column)


def _limit() -> None:
    for what, most in _RLIMITS:
        _, hard = resource.getrlimit(what)
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (least, least))


def _guard(timeout_s: float) -> None:
    """Kill the whole session when time is up: the server may be gone by then."""
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(0, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, timeout_s)


def main() -> None:
    """Answer one request; an empty line or end of input means that nobody needs us."""
    _limit()
    line = sys.stdin.buffer.readline()
    if not line.strip():
        return
    request = msgspec.json.decode(line, type=Request)
    _guard(request.timeout_s)
    home = Path(request.store).with_suffix(".home")
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ.update(child_environment(home, request.transport, request.url))
        reply = answer(request)
    except OSError:
        reply = UNWRITABLE
    sys.stdout.buffer.write(msgspec.json.encode(reply))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
