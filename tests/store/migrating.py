"""Migrates a database and dies by SIGKILL before a statement; run by ``test_store_upgrade.py``.

    python migrating.py <database URL>

One fork after another, each dying one statement later than the one before, until one gets to the
end. For each a line goes to standard output: ``died`` or ``done``.
"""

from __future__ import annotations

import os
import signal
import sys
from itertools import count
from typing import Any

from sqlalchemy import Engine, event

from mergescale.store.schema import migrate


def attempt(url: str, statements: int) -> bool:
    """Migrate in a fork that dies before its statement of this number; say whether it ended."""
    child = os.fork()
    if child == 0:
        left = [statements]

        def die(*_: Any) -> None:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        event.listen(Engine, "before_cursor_execute", die)
        event.listen(Engine, "commit", die)
        migrate(url)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


if __name__ == "__main__":
    for number in count():
        done = attempt(sys.argv[1], number)
        sys.stdout.write("done\n" if done else "died\n")
        if done:
            break
