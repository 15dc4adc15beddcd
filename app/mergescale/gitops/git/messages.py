"""What server and worker say to each other: one JSON line each way."""

from __future__ import annotations

import msgspec

from mergescale.gitops.git.access import Access
from mergescale.gitops.git.limits import Limits
from mergescale.gitops.git.revisions import Kind
from mergescale.gitops.trust.demands import Demands, Verdict


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the repository.

    Attributes:
        url, transport, folder: see `Source`.
        ref: what is followed; see `Followed`.
        store: path of the server's own bare repository.
        known: commit that was looked at last; when the ref is still there nothing is read.
        applied: commit in force; the new one must descend from it. Empty for none.
        accepted: commit that may come although it does not descend; empty for none.
        past: commit of the history that is wanted instead of the newest, maybe shortened; empty for
            none.
        demands: whose commits are wanted.
        timeout_s: the worker kills itself and its children after this, should the server be gone.
        kind: of what is followed.
        limits: how much is accepted.
        access: what opens the repository.
        pull: ref of a pull request that is to be merged for trial instead; empty for none.
        base: path of the store with the branch that it is merged into.
    """

    url: str
    transport: str
    ref: str
    folder: str
    store: str
    known: str
    applied: str
    timeout_s: float
    accepted: str = ""
    past: str = ""
    demands: Demands = Demands()
    kind: Kind = Kind.BRANCH
    limits: Limits = Limits()
    access: Access = Access()
    pull: str = ""
    base: str = ""


class Unchanged(msgspec.Struct, frozen=True, tag="unchanged"):
    """The ref is where it was."""

    commit: str


class Fault(msgspec.Struct, frozen=True):
    """A file that was not read, and where it goes wrong (1-based, in characters)."""

    path: str
    code: str
    message: str
    help: str = ""
    line: int = 1
    column: int = 1


class Found(msgspec.Struct, frozen=True, tag="found"):
    """The ref is at another commit.

    Attributes:
        commit: full hex object id.
        committed_s: committer date, seconds since 1970.
        descends: the commit in force is an ancestor of it, or nothing is in force.
        files: name in the watched folder -> text; empty when it may not come into force.
        faults: files that could not be read as text.
        verdict: who vouches for it; None when that was not looked at.
        name: of the branch or tag that names it, as people say it; empty for a pinned commit.
    """

    commit: str
    subject: str
    author: str
    committed_s: int
    descends: bool
    files: dict[str, str]
    faults: list[Fault]
    verdict: Verdict | None = None
    name: str = ""


class Merged(msgspec.Struct, frozen=True, tag="merged"):
    """A pull request, merged for trial.

    Attributes:
        head, base: full ids of the commits that were merged.
        found: the merge, under the id of its tree, and who vouches for what the pull request
            brings; None if the two conflict.
        conflicts: paths for which they do, the first few.
    """

    head: str
    base: str
    found: Found | None
    conflicts: tuple[str, ...] = ()


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Git could not do it.

    Attributes:
        retry: the same request may succeed later.
        reason: CamelCase word for conditions.
        retry_after_s: what the remote asks to be left alone for; 0 when it does not say.
    """

    retry: bool
    reason: str
    message: str
    help: str = ""
    retry_after_s: float = 0


Reply = Unchanged | Found | Merged | Failed
