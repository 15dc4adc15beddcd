"""``GET /bootstrap-dns``: our own names, for clients whose system DNS is broken (spec 7.5).

What must hold: it is no open resolver, and whatever strangers ask, each of our names is being
looked up at most once at a time. Lookups block threads that the whole process shares.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection
from typing import Final

#: Returns the addresses of a host; raises OSError when it has none, UnicodeError for
#: what can be no name.
Lookup = Callable[[str], Awaitable[list[str]]]

#: LIMIT: how long a client waits; it asks other servers meanwhile.
ANSWER_S: Final = 2.0
#: LIMIT: how old an answer may be. Our addresses change less often than clients ask.
FRESH_S: Final = 60.0


async def system_lookup(host: str) -> list[str]:
    """Ask the system's resolver."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Bootstrap:
    """Answers from what was looked up lately."""

    def __init__(
        self,
        hosts: Callable[[], Collection[str]],
        lookup: Lookup = system_lookup,
        *,
        answer_s: float = ANSWER_S,
    ) -> None:
        """`hosts` returns the names that may be asked for."""
        self._hosts = hosts
        self._lookup = lookup
        self._answer_s = answer_s
        self._lookups: dict[str, tuple[float, asyncio.Task[list[str]]]] = {}

    async def answer(self, question: str) -> dict[str, list[str]]:
        """Return host -> addresses; all of our names for an empty question, none for a foreign one.

        A name that does not resolve, or not in time, has no addresses.
        """
        hosts = {host.lower() for host in self._hosts()}
        for name in self._lookups.keys() - hosts:
            del self._lookups[name]
        wanted = sorted(hosts & {question.lower().rstrip(".")} if question else hosts)
        if not wanted:
            return {}
        tasks = {host: self._task(host) for host in wanted}
        await asyncio.wait(tasks.values(), timeout=self._answer_s)
        return {host: task.result() if task.done() else [] for host, task in tasks.items()}

    def _task(self, host: str) -> asyncio.Task[list[str]]:
        """Return the newest lookup of a host: one that is under way, fresh, or begun now."""
        now_s = asyncio.get_running_loop().time()
        known = self._lookups.get(host)
        if known is not None and (not known[1].done() or now_s - known[0] < FRESH_S):
            return known[1]
        task = asyncio.create_task(self._resolve(host))
        self._lookups[host] = now_s, task
        return task

    async def _resolve(self, host: str) -> list[str]:
        try:
            return await self._lookup(host)
        except (OSError, UnicodeError):
            return []
