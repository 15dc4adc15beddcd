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
from msgspec import structs

from mergescale.gitops.git import trial
from mergescale.gitops.git.access import folder_of, lent
from mergescale.gitops.git.bare import TIP, GitFailed, Store
from mergescale.gitops.git.checks import check
from mergescale.gitops.git.excess import TooMuch, passed, talked
from mergescale.gitops.git.hardening import child_environment
from mergescale.gitops.git.keeping import Locked, alone, fresh_of, quarantine_of, swap
from mergescale.gitops.git.limits import Limits, allocations, impose
from mergescale.gitops.git.messages import Failed, Fault, Found, Reply, Request, Unchanged
from mergescale.gitops.git.patience import patient, recall, remember, traced
from mergescale.gitops.git.printed import Entry
from mergescale.gitops.git.revisions import Chosen, Followed, Kind
from mergescale.gitops.git.running import Talkative
from mergescale.gitops.git.sayings import (
    LOCKED,
    MISSING,
    NO_REF,
    NO_VERSION,
    NOT_IN_HISTORY,
    UNWRITABLE,
    blamed,
    classified,
)
from mergescale.gitops.git.source import Transport
from mergescale.gitops.trust.demands import Verdict
from mergescale.gitops.trust.signatures import verify

#: LIMIT: bytes of address space, open files; the request says the others.
_RLIMITS: Final = (
    (resource.RLIMIT_AS, 2 << 30),
    (resource.RLIMIT_NOFILE, 256),
    (resource.RLIMIT_CORE, 0),
)
#: LIMIT: packs of the store, of which each commit that comes in makes one.
_MOST_PACKS: Final = 50
#: LIMIT: commits that were in force and are kept whatever becomes of the branch.
_MOST_PINS: Final = 200
#: Beside what git keeps in the store: what was too large to be transferred.
_REFUSED: Final = "mergescale-refused"
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
    """Look, fetch what is new and read it; a store in doubt is made anew, once."""
    path, gone = Path(request.store), request.transport == "file" and not Path(request.url).is_dir()
    if gone and not request.past:
        return MISSING
    if request.pull:
        return trial.answer(request, read_files, vouched)
    try:
        with alone(path):
            reply = _answer(request, Store(path, request.transport))
            return MISSING if gone and isinstance(reply, Failed) else reply
    except Locked:
        return LOCKED
    except OSError:
        return UNWRITABLE


def _answer(request: Request, store: Store) -> Reply:
    try:
        return _look(request, store)
    except GitFailed as first:
        if (known := _understood(first, request.limits)) is not None:
            return patient(known, first.stderr, _trace(request))
    # The store that the quarantine builds on may be what is wrong: look without it. It is replaced
    # only by one that works, so what was in force stays where it is when the remote is at fault.
    fresh = Store(fresh_of(store.path), request.transport)
    try:
        reply = _look(structs.replace(request, known=""), fresh)
    except GitFailed as second:
        fresh.discard()
        said = _understood(second, request.limits) or blamed(second.stderr)
        return patient(said, second.stderr, _trace(request))
    if fresh.has(TIP):
        fresh.inherit(store)
        swap(store.path)
    fresh.discard()
    match reply:
        case Found(commit=commit) if commit == request.known:
            return Unchanged(commit)
        case _:
            return reply


def _understood(failed: GitFailed, limits: Limits) -> Failed | None:
    """Return what git's failure means; None when the store itself may be what is wrong."""
    if isinstance(failed, Talkative):
        return talked(failed.most, limits)
    return passed(failed.stderr, limits) or classified(failed.stderr)


def _look(request: Request, store: Store) -> Reply:
    return _earlier(request, store) if request.past else _newest(request, store)


def _earlier(request: Request, store: Store) -> Reply:
    """Read a commit out of the history that came in, and ask the remote only if it is not there."""
    store.prepare()
    commit = _of_history(store, store.tip(), request.past)
    if commit:
        return _judged(request, store, commit, "")
    return _newest(structs.replace(request, known=""), store)


def _of_history(store: Store, tip: str, past: str) -> str:
    """Return the commit whose id begins so, if the newest one follows from it, else nothing."""
    if not tip:
        return ""
    try:
        commit = store.resolve(past)
    except GitFailed:
        return ""
    return commit if store.descends(tip, commit) else ""


def _newest(request: Request, store: Store) -> Reply:
    followed = Followed(request.kind, request.ref)
    store.prepare()
    listing: dict[str, str] = {}
    if followed.patterns:
        listing = store.listing(request.url, followed.patterns, request.limits.refs_bytes)
    chosen = followed.choose(listing)
    if chosen is None:
        return NO_VERSION if request.kind is Kind.SEMVER else NO_REF
    if chosen.commit == request.known:
        _collect(store)
        return Unchanged(chosen.commit)
    if chosen.commit == store.tip():
        if request.past:
            return NOT_IN_HISTORY
        # It came through the quarantine before; a pinned commit needs no remote any more.
        return _judged(request, store, chosen.commit, chosen.name)
    return _fetched(request, store, chosen)


def _fetched(request: Request, store: Store, chosen: Chosen) -> Reply:
    """Fetch into a quarantine, judge there, and take over what is good."""
    refused = store.path / _REFUSED
    if (much := recall(refused, request, chosen.commit)) is not None:
        return much
    quarantine = Store(quarantine_of(store.path), request.transport)
    try:
        quarantine.prepare()
        quarantine.build_on(store)
        try:
            commit = quarantine.fetch(request.url, chosen.ref)
        except GitFailed as failed:
            if (much := passed(failed.stderr, request.limits)) is not None:
                return remember(refused, request, chosen.commit, much)
            raise
        if request.past:
            # What is newer than the commit that is wanted may well be refused.
            commit = _of_history(quarantine, commit, request.past)
            if not commit:
                return NOT_IN_HISTORY
        reply = _judged(request, quarantine, commit, "" if request.past else chosen.name)
        # INVARIANT(promoted): only what passed the checks, and who is trusted, gets into the store.
        if reply.verdict is not None and not reply.verdict.reason:
            store.adopt(quarantine, commit, _pinned(request, quarantine))
    finally:
        quarantine.discard()
    return reply


def _judged(request: Request, store: Store, commit: str, name: str) -> Found:
    """Check a commit and read it.

    Args:
        request: says what is checked.
        store: the quarantine that it is in, or the store once it was promoted.
        commit: its id.
        name: of the branch or tag that names it.
    """
    about = store.describe(commit)
    # Whoever names a commit by its id accepts it, wherever in history it is.
    free = request.applied in {"", commit} or commit == request.accepted
    free = free or request.kind is Kind.COMMIT or bool(request.past)
    descends = free or store.descends(commit, request.applied)
    found = Found(
        commit=commit,
        subject=about.subject,
        author=about.author,
        committed_s=about.committed_s,
        descends=descends,
        files={},
        faults=[],
        name=name,
    )
    try:
        check(store, commit, request.limits)
    except TooMuch as much:
        fault = Fault("", "repository.too-large", much.failed.message, much.failed.help)
        return structs.replace(found, faults=[fault])
    if not descends:
        return found
    verdict = vouched(request, store, commit)
    files, faults = ({}, []) if verdict.reason else read_files(store, commit, request.folder)
    return structs.replace(found, files=files, faults=faults, verdict=verdict)


def vouched(request: Request, store: Store, commit: str) -> Verdict:
    """Look at who vouches for a commit, and for those since the one in force."""
    return verify(
        store,
        commit,
        applied=request.applied,
        demands=request.demands,
        scratch=Path(request.store).with_suffix(".trust"),
        now=datetime.now(UTC),  # noqa: TID251 - by which ssh-keygen and gpg go
    )


def _pinned(request: Request, store: Store) -> str:
    """Return the commit in force if it is there to be pinned, else nothing."""
    applied = request.applied
    return applied if applied and store.holds(applied) else ""


def _trace(request: Request) -> Path:
    """Return where git writes down the headers of https servers."""
    return Path(request.store).with_suffix(".home") / "headers"


def _collect(store: Store) -> None:
    """Tidy up while nothing else is to be done, once enough has come together."""
    store.unpin(_MOST_PINS)
    if store.packs > _MOST_PACKS:
        store.collect()


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
    impose(request.limits)
    home = Path(request.store).with_suffix(".home")
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ.update(child_environment(home, request.transport, request.url))
        os.environ.update(allocations(request.limits))
        if request.transport == Transport.HTTPS:
            os.environ.update(traced(_trace(request)))
        with lent(request.access, request.url, folder_of(Path(request.store))) as variables:
            os.environ.update(variables)
            reply = answer(request)
    except OSError:
        reply = UNWRITABLE
    finally:
        # What was killed before it came here is removed by the next one.
        _trace(request).unlink(missing_ok=True)
    sys.stdout.buffer.write(msgspec.json.encode(reply))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
