"""The garbage collector of a server that runs."""

from __future__ import annotations

import gc

from mergescale.server.memory import COLLECT_AFTER, calm_collector


def test_the_collector_that_was_off_for_the_start_is_on_and_calm() -> None:
    """What is there stays out of its sight; what comes is looked at."""
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    gc.disable()
    try:
        calm_collector()
        assert (gc.isenabled(), gc.get_threshold()) == (True, COLLECT_AFTER)
        assert gc.get_freeze_count() > frozen
    finally:
        gc.set_threshold(*before)
        gc.enable()
