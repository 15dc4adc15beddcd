"""Who waits for a login to be decided: the follow-up requests that are held open (spec 3.4)."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Iterator

from mergescale.domain.change import Change
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import LoginId


class LoginBell:
    """Rings for everybody who waits at a login when it is decided or forgotten; a `Feed`."""

    def __init__(self) -> None:
        self._waiting: defaultdict[LoginId, set[asyncio.Event]] = defaultdict(set)

    def publish(self, before: Snapshot, after: Snapshot, change: Change) -> None:  # noqa: ARG002
        """Wake those whose login the change names."""
        for login in change.logins:
            for event in self._waiting.get(login, ()):
                event.set()

    @contextlib.contextmanager
    def at(self, login: LoginId) -> Iterator[asyncio.Event]:
        """Listen for one login. Enter before looking at the snapshot, so that nothing is missed."""
        event = asyncio.Event()
        self._waiting[login].add(event)
        try:
            yield event
        finally:
            self._waiting[login].discard(event)
            if not self._waiting[login]:
                del self._waiting[login]
