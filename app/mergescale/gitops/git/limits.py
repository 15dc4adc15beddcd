"""How much a watched repository may be, and what keeps it to that.

Some limits end a transfer while it runs: the operating system and git itself keep them. The others
are counted afterwards, in the quarantine, before anything reaches the server's own store.
"""

from __future__ import annotations

import resource
import signal
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

#: LIMIT: an index entry of ``git index-pack`` takes 64 bytes; it allocates all of them at once.
_ENTRY_BYTES: Final = 64
#: LIMIT: seconds of processor time of each process, bytes of its stack (git walks trees by it).
CPU_S: Final = 120
_STACK_BYTES: Final = 64 << 20

_AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is accepted of one repository; policies are text that people review.

    Attributes:
        transfer_bytes: of one pack: the whole history first, then what is new.
        object_bytes: of one file, tree, commit or tag, unpacked. Also ends a transfer whose object
            table would be larger, about a million objects for each 64 MiB.
        objects: in one transfer.
        commits: in one transfer.
        files: of one commit.
        depth: folders within each other.
        path_bytes: of one path.
        refs_bytes: of the list of branches and tags.
    """

    transfer_bytes: _AtLeastOne = 256 << 20
    object_bytes: _AtLeastOne = 32 << 20
    objects: _AtLeastOne = 250_000
    commits: _AtLeastOne = 100_000
    files: _AtLeastOne = 50_000
    depth: _AtLeastOne = 64
    path_bytes: _AtLeastOne = 1024
    refs_bytes: _AtLeastOne = 16 << 20


def impose(limits: Limits) -> None:
    """Have the operating system keep this process, and what it starts, within the limits.

    Only ever lowers what is in force already.
    """
    # Python ignores it and what it starts would, too; git ends by it where nobody reads.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for what, most in (
        (resource.RLIMIT_FSIZE, limits.transfer_bytes),
        (resource.RLIMIT_CPU, CPU_S),
    ):
        _, hard = resource.getrlimit(what)
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (least, hard))
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if hard == resource.RLIM_INFINITY or hard >= _STACK_BYTES:
        # Trees within trees within the limits must not be what ends git.
        resource.setrlimit(resource.RLIMIT_STACK, (_STACK_BYTES, hard))


def allocations(limits: Limits) -> Mapping[str, str]:
    """Return the variable by which git refuses to make room for more at once (wrapper.c).

    It ends a transfer as soon as an object says its size, before it is unpacked.
    """
    most = max(limits.object_bytes, limits.objects * _ENTRY_BYTES)
    return {"GIT_ALLOC_LIMIT": str(most)}
