"""What is said of a repository that is more than its limits.

Each sentence names the limit as the configuration does, and what was found.
"""

from __future__ import annotations

import re
from typing import Final

from mergescale.gitops.git.limits import CPU_S, Limits, allocations
from mergescale.gitops.git.messages import Failed

#: The reason of everything here.
TOO_LARGE: Final = "TooLarge"
_HELP: Final = "keep the policy in a repository of its own, or raise the limit in the configuration"


class TooMuch(Exception):
    """A limit was passed.

    Attributes:
        failed: what is said of it.
    """

    def __init__(self, limit: str, found: str, most: int) -> None:
        super().__init__(limit)
        self.failed = excess(limit, found, most)


def excess(limit: str, found: str, most: int) -> Failed:
    """Say that a limit was passed.

    Args:
        limit: an attribute of `Limits`.
        found: what was found, a sentence.
        most: what would have been accepted.
    """
    message = f"{found}; limits.{limit} is {most}"
    return Failed(retry=False, reason=TOO_LARGE, message=message, help=_HELP)


def talked(most: int, limits: Limits) -> Failed:
    """Say that git, or the remote through it, printed more than it was granted."""
    if most == limits.refs_bytes:
        return excess("refs_bytes", "the remote said more than was asked for", most)
    message = f"the new commits and their messages have more than {most} bytes"
    return Failed(retry=False, reason=TOO_LARGE, message=message, help="write shorter messages")


_ALLOCATION = re.compile(r"attempting to allocate (\d+) over limit (\d+)")
_OVER_SIZE = re.compile(r"died of signal 25|ended by signal 25|File too large|File size limit")
_OVER_CPU = re.compile(r"(died of|ended by) signal 24")
_OVER_STACK = re.compile(r"(died of|ended by) signal 11")


def passed(stderr: str, limits: Limits) -> Failed | None:
    """Return which limit ended git, by what it said or died of; None for anything else."""
    if found := _ALLOCATION.search(stderr):
        most = int(allocations(limits)["GIT_ALLOC_LIMIT"])
        wanted = f"an object, or the table of all, takes {found[1]} bytes"
        return excess("object_bytes", wanted, most)
    if _OVER_SIZE.search(stderr):
        most = limits.transfer_bytes
        return excess("transfer_bytes", f"the transfer was stopped at {most} bytes", most)
    if _OVER_CPU.search(stderr):
        message = f"unpacking the repository took more than {CPU_S} s of processor time"
        return Failed(retry=False, reason=TOO_LARGE, message=message, help=_HELP)
    if _OVER_STACK.search(stderr):
        message = "folders are nested deeper than git can follow"
        return Failed(retry=False, reason=TOO_LARGE, message=message, help=_HELP)
    return None
