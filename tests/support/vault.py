"""The in-memory twin of ``store.vault``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from mergescale.gitops.vault import Held
from mergescale.state.ports import StoreUnavailable
from support.clock import START


class MemoryVault:
    """The secrets of one tailnet; `away` makes every call fail.

    Attributes:
        kept: purpose -> (what it is bound to, the secret).
        asked: every (purpose, bound_to) that was looked for.
    """

    def __init__(self) -> None:
        self.kept: dict[str, tuple[str, bytes]] = {}
        self.asked: list[tuple[str, str]] = []
        self.away = False

    async def find(self, purpose: str, bound_to: str) -> bytes | None:
        self._check()
        self.asked.append((purpose, bound_to))
        bound, value = self.kept.get(purpose, (bound_to, None))
        if bound != bound_to:
            del self.kept[purpose]
            return None
        return value

    async def put(self, purpose: str, bound_to: str, value: bytes) -> None:
        self._check()
        self.kept[purpose] = bound_to, value

    async def drop(self, purpose: str) -> bool:
        self._check()
        return self.kept.pop(purpose, None) is not None

    async def held(self) -> Mapping[str, Held]:
        self._check()
        return {
            purpose: Held(bound_to, START, hashlib.sha256(value).hexdigest()[:16])
            for purpose, (bound_to, value) in self.kept.items()
        }

    def _check(self) -> None:
        if self.away:
            raise StoreUnavailable("the database is away")
