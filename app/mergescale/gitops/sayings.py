"""What git prints when it fails -> what we say, and whether to try again.

Git's words (under ``LC_ALL=C``) are matched and then dropped: they may hold URLs or whatever the
remote chose to send. In the patterns a line break and the spaces after it mean nothing.
"""

from __future__ import annotations

import re
from typing import Final

from mergescale.gitops.messages import Failed

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
#: What the machine does to git, whatever the objects are like.
_MACHINE: Final[tuple[tuple[re.Pattern[str], Failed], ...]] = (
    (
        re.compile(
            r"Input/output error|No space left on device|Disk quota exceeded|Read-only file system"
        ),
        UNWRITABLE,
    ),
    (
        re.compile(r"(died of|ended by) signal"),
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
    (
        r"couldn't find remote ref",
        Failed(
            retry=False,
            reason="RefMissing",
            message="the branch does not exist in the repository",
            help="push the branch, or name another in the configuration",
        ),
    ),
    (
        r"Host key verification failed",
        Failed(
            retry=False,
            reason="HostKey",
            message="the ssh host key is not known",
            help="add the host to known_hosts of the server's account",
        ),
    ),
    (
        r"""Permission denied \(|Authentication failed|could not read (Username|Password)
        |returned error: 40[13]|dubious ownership""",
        Failed(
            retry=False,
            reason="Denied",
            message="the repository refused access",
            help="give the server's account a deploy key that may read it",
        ),
    ),
    (r"does not appear to be a git repository|[Rr]epository .{0,99}not found", MISSING),
    (
        r"File size limit|signal 25|[Oo]ut of memory|pack exceeds|mmap failed",
        Failed(
            retry=False,
            reason="TooLarge",
            message="the repository's history is larger than the limits",
            help="keep the policy in a repository of its own",
        ),
    ),
    (
        r"""Could not resolve|Connection (refused|timed out|reset|closed)|unable to access
        |timed out|hung up unexpectedly|early EOF|Network is unreachable|No route to host
        |unexpected disconnect|RPC failed|returned error: [45]""",
        Failed(
            retry=True,
            reason="Unreachable",
            message="the repository could not be reached",
            help="the policy in force stays; it is tried again",
        ),
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
