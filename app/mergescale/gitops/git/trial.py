"""The worker's part of a pull request: fetch its head aside, merge it for trial, read the result.

Nothing comes into the server's own store: what the pull request brings lies in a quarantine of its
own that borrows the objects of the other one, and is thrown away afterwards. So whoever opens a
pull request can neither fill the store nor spoil what is in force, and a look at the branch need
not wait for a trial.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec import structs

from mergescale.gitops.git.bare import GitFailed, Store
from mergescale.gitops.git.checks import check
from mergescale.gitops.git.excess import TooMuch, passed, talked
from mergescale.gitops.git.messages import Failed, Fault, Found, Merged, Reply, Request
from mergescale.gitops.git.running import Talkative
from mergescale.gitops.git.sayings import blamed, classified
from mergescale.gitops.trust.demands import Verdict

#: Said when there is nothing yet that a pull request could be merged into.
_NO_BASE: Final = Failed(
    retry=True, reason="NoBase", message="the branch was not fetched yet", help="it is tried again"
)
#: LIMIT: paths of a conflict that are told.
_MOST_CONFLICTS: Final = 20
#: Reads the watched folder of a tree; `worker.read_files`.
Reads = Callable[[Store, str, str], tuple[dict[str, str], list[Fault]]]
#: Looks at who vouches for a commit and those since `Request.applied`; `worker.vouched`.
Vouches = Callable[[Request, Store, str], Verdict]


def answer(request: Request, reads: Reads, vouches: Vouches) -> Reply:
    """Try a pull request; `Request.pull` is its ref and `Request.base` the store of the branch."""
    quarantine = Store(Path(request.store), request.transport)
    # What a killed process left.
    quarantine.discard()
    try:
        return _tried(request, quarantine, reads, vouches)
    except TooMuch as much:
        return much.failed
    except Talkative as failed:
        return talked(failed.most, request.limits)
    except GitFailed as failed:
        known = passed(failed.stderr, request.limits) or classified(failed.stderr)
        return known or blamed(failed.stderr)
    finally:
        quarantine.discard()


def _tried(request: Request, quarantine: Store, reads: Reads, vouches: Vouches) -> Reply:
    store = Store(Path(request.base), request.transport)
    base = store.tip()
    if not base:
        return _NO_BASE
    quarantine.prepare()
    quarantine.build_on(store)
    head = quarantine.fetch(request.url, request.pull)
    check(quarantine, head, request.limits)
    tree = quarantine.merged(base, head)
    if tree is None:
        paths = tuple(quarantine.conflicts(base, head)[:_MOST_CONFLICTS])
        return Merged(head=head, base=base, found=None, conflicts=paths)
    about = quarantine.describe(head)
    files, faults = reads(quarantine, tree, request.folder)
    found = Found(
        commit=tree,
        subject=about.subject,
        author=about.author,
        committed_s=about.committed_s,
        descends=True,
        files=files,
        faults=faults,
        # Of what the pull request brings: the merge itself is not made yet.
        verdict=vouches(structs.replace(request, applied=base), quarantine, head),
    )
    return Merged(head=head, base=base, found=found)
