"""How many sockets the process may have, and how many of them are for strangers.

Every connection is a file descriptor, and so is what the server needs for itself: the database,
pipes to git, listeners. When they run out, accepting is the least that fails, so the edge stops
short of it (INVARIANT(room) of ``server.takeover``).
"""

from __future__ import annotations

import contextlib
import resource
from dataclasses import replace
from typing import Final

from mergescale.control import limits as control
from mergescale.relay import limits as relay
from mergescale.server.settings import Settings

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


def control_limits(settings: Settings, sockets: int) -> control.Limits:
    """Return the bounds of control connections where there may be so many sockets.

    INVARIANT(room): neither the silent nor the strangers get more than a quarter of them, so that
    there is room for nodes whatever the others do.
    """
    share = max(1, sockets // 4)
    limits = control.Limits()
    return replace(
        limits,
        stranger_idle_s=settings.stranger_idle_s,
        strangers=min(settings.stranger_connections, share),
        strangers_per_place=settings.stranger_connections_per_address,
        pending_handshakes=min(limits.pending_handshakes, share),
    )


def relay_limits(sockets: int) -> relay.Limits:
    """Return the bounds of relay connections where there may be so many sockets."""
    limits = relay.Limits()
    return replace(limits, pending=min(limits.pending, max(1, sockets // 4)))
