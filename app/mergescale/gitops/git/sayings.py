"""What git prints when it fails -> what we say, and whether to try again.

Git's words (under ``LC_ALL=C``) are matched and then dropped: they may hold URLs or whatever the
remote chose to send. In the patterns a line break and the spaces after it mean nothing.
"""

from __future__ import annotations

import re
from typing import Final

from mergescale.gitops.git.messages import Failed
from mergescale.gitops.waits import USUAL_S

MISSING = Failed(
    retry=True,
    reason="RemoteMissing",
    message="there is no repository at the configured address",
    help="the policy in force stays; check the address if this lasts",
)
BAD_OBJECTS = Failed(
    retry=False,
    reason="BadObjects",
    message="git did not accept the repository's objects",
    help="run `git fsck --strict` on the repository",
)
UNWRITABLE = Failed(
    retry=True,
    reason="StoreUnwritable",
    message="the server's copy of the repository could not be written",
    help="check space and permissions of the server's state folder",
)
UNREACHABLE = Failed(
    retry=True,
    reason="Unreachable",
    message="the repository could not be reached",
    help="the policy in force stays; it is tried again",
)
NO_REF = Failed(
    retry=False,
    reason="RefMissing",
    message="the branch or tag does not exist in the repository",
    help="push it, or name another in the configuration",
)
NO_VERSION = Failed(
    retry=False,
    reason="RefMissing",
    message="no tag of the repository is a version in the range",
    help="push one like v1.2.3; prereleases count only if the range names one",
)
NOT_IN_HISTORY = Failed(
    retry=False,
    reason="CommitMissing",
    message="the commit is not in the history of what is followed",
    help="give more of its id, or the id of one that is",
)
LOCKED = Failed(
    retry=True,
    reason="StoreLocked",
    message="another process is using the server's copy of the repository",
    help="give each server process a state folder of its own",
)
#: What the machine does to git, whatever the objects are like.
_MACHINE: Final[tuple[tuple[re.Pattern[str], Failed], ...]] = (
    (
        re.compile(
            r"Input/output error|No space left on device|Disk quota exceeded|Read-only file system"
            r"|unable to update local ref|couldn't set|cannot lock ref"
        ),
        UNWRITABLE,
    ),
    (
        # A fetch whose helper said nothing before it ended.
        re.compile(
            r"(died of|ended by) signal|\A\s*fatal: fetch-pack: invalid index-pack output\s*\Z"
        ),
        Failed(
            retry=True,
            reason="GitEnded",
            message="the git program was ended by the system",
            help="check the memory of the machine; it is tried again",
        ),
    ),
)
_DOUBTFUL = re.compile(r"fsck error|object [0-9a-f]{40,}: |corrupt")
#: What git says (LC_ALL=C) -> what we say. The first that matches wins.
_SAYINGS: Final[tuple[tuple[str, Failed], ...]] = (
    (
        r"git is not installed",
        Failed(
            retry=True,
            reason="NoGit",
            message="the git program was not found",
            help="install git 2.39 or newer on the server",
        ),
    ),
    (r"couldn't find remote ref", NO_REF),
    (
        r"expected commit type",
        Failed(
            retry=False,
            reason="NoCommit",
            message="what is followed does not name a commit",
            help="tag a commit, or follow a branch",
        ),
    ),
    (
        r"not our ref|unadvertised object",
        Failed(
            retry=False,
            reason="RefMissing",
            message="the repository does not hand out the commit",
            help="push it to a branch; some servers hand out commits only by branch or tag",
        ),
    ),
    (
        r"shallow update not allowed",
        Failed(
            retry=False,
            reason="Shallow",
            message="the repository is a shallow copy, without its history",
            help="follow the one that it was copied from, or `git fetch --unshallow` in it",
        ),
    ),
    (
        r"mismatched algorithms",
        Failed(
            retry=False,
            reason="ObjectFormat",
            message="the repository names its objects by SHA-256, which is not supported",
            help="keep the policy in a repository that uses SHA-1, as git makes them",
        ),
    ),
    (
        # Of git's own curl and of the two TLS libraries that it comes with.
        r"""SSL certificate problem|certificate verif\w+ failed|certificate subject name
        |self.signed certificate|[Ee]rror (reading|setting) .{0,40}(ca cert|certificate)
        |SSL: no alternative certificate""",
        Failed(
            retry=False,
            reason="Certificate",
            message="the certificate of the repository's server is not trusted",
            help="name its authority's file in `ca_file` of the repository's settings",
        ),
    ),
    (
        r"returned error: 3\d\d|unable to update url base from redirection",
        Failed(
            retry=False,
            reason="Redirected",
            message="the repository's address sends elsewhere, which is not followed",
            help="configure the address that it has now; GitLab's end in .git",
        ),
    ),
    (
        r"returned error: 429",
        Failed(
            retry=True,
            reason="RateLimited",
            message="the repository's server asks to come back later",
            help="the policy in force stays; it is tried again",
            # Git does not say what ``Retry-After`` was; forges count requests by the minute.
            retry_after_s=USUAL_S,
        ),
    ),
    # Git says of a connection that broke off within a pack that the protocol was wrong, too.
    (r"RPC failed; curl|unexpected disconnect while reading", UNREACHABLE),
    (
        r"""not valid: |protocol error|invalid server response|expected flush after
        |bad line length|expected packet|unable to read .{0,40}(packet|pack header)""",
        Failed(
            retry=True,
            reason="BadAnswer",
            message="what answers at the repository's address does not speak git",
            help="check the address; the policy in force stays, and it is tried again",
        ),
    ),
    (
        r"Host key verification failed",
        Failed(
            retry=False,
            reason="HostKey",
            message="the ssh host key is not known",
            help="compare it with what the forge publishes, then set the credential with it:"
            " mergescale gitops credential set",
        ),
    ),
    (
        r"""Permission denied \(|Authentication failed|could not read (Username|Password)
        |returned error: 40[13]|dubious ownership""",
        Failed(
            retry=False,
            reason="Denied",
            message="the repository refused access",
            help="set a credential that may read it: mergescale gitops credential set",
        ),
    ),
    (r"does not appear to be a git repository|[Rr]epository .{0,99}not found", MISSING),
    (
        r"[Oo]ut of memory|mmap failed",
        Failed(
            retry=False,
            reason="TooLarge",
            message="git ran out of the memory that it is granted",
            help="keep the policy in a repository of its own",
        ),
    ),
    (
        r"""Could not resolve|Connection (refused|timed out|reset|closed)|unable to access
        |timed out|hung up unexpectedly|early EOF|Network is unreachable|No route to host
        |unexpected disconnect|RPC failed|returned error: [45]""",
        UNREACHABLE,
    ),
)
_PATTERNS: Final = [
    (re.compile(re.sub(r"\n\s*", "", pattern)), failed) for pattern, failed in _SAYINGS
]


def classified(stderr: str) -> Failed | None:
    """Return our words; None when the store itself may be what is wrong."""
    if _DOUBTFUL.search(stderr):
        return None
    return next((failed for pattern, failed in _PATTERNS if pattern.search(stderr)), None)


def blamed(stderr: str) -> Failed:
    """Return our words for what fails even with a fresh store: the machine, else the objects."""
    if (known := classified(stderr)) is not None:
        return known
    found = (failed for pattern, failed in _MACHINE if pattern.search(stderr))
    return next(found, BAD_OBJECTS)
