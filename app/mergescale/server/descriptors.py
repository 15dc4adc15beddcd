"""How many sockets the process may have.

Every connection is a file descriptor, and so is what the server needs for itself: the database,
pipes to git, listeners. When they run out, accepting is the least that fails, so the edge stops
short of it (INVARIANT(room) of ``server.takeover``).
"""

from __future__ import annotations

import contextlib
import resource
from typing import Final

#: LIMIT: descriptors of our own. Seen: 30 with one tailnet, and about ten while git runs.
OWN: Final = 128
#: LIMIT: connections. A silent one costs some 10 kB, so that all of them together are bounded by
#: memory too where the system sets no limit worth the name.
SOCKETS: Final = 1 << 15


def room() -> int:
    """Raise the soft limit of descriptors as far as it goes; return how many are for clients.

    At least a quarter of the limit, however low it is.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = SOCKETS + OWN
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # Some systems promise more than they give.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    if soft == resource.RLIM_INFINITY:
        return SOCKETS
    return min(SOCKETS, max(soft - OWN, soft // 4))
