"""Runs ``mergescale`` with keepalives, deadlines and graces of seconds instead of a minute.

python impatient.py <python> -m mergescale serve
"""

from __future__ import annotations

import runpy
import sys

from mergescale.fanout import hub, presence
from mergescale.server import listeners, tailnet

#: As short as TCP's own clock makes sense.
SECONDS = 2

if __name__ == "__main__":
    hub.KEEPALIVE_S = float(SECONDS)  # type: ignore[misc] # what else is constant
    hub._JITTER_S = 0.1  # type: ignore[misc]
    presence.Presence.__init__.__kwdefaults__["grace_s"] = 1.0  # type: ignore[index]
    tailnet.UPKEEP_S = 1.0
    listeners.UNACKNOWLEDGED_S = SECONDS
    sys.argv = sys.argv[3:]
    runpy.run_module("mergescale", run_name="__main__", alter_sys=True)
