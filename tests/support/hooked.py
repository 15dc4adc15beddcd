"""The outer application with a webhook, and who sends to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from mergescale.api.hooks import Hooks, hook_handler
from mergescale.gitops.hooks import MAX_BODY_BYTES
from mergescale.gitops.webhooks import Webhook
from mergescale.server.http import Parts, application
from mergescale.state.throttle import Throttle
from support.clock import FakeClock, FakeEntropy
from support.failures import MemoryFailures
from support.rest import URL, client
from support.vault import MemoryVault

Message = dict[str, Any]


class CountedLooks:
    """Looks that are done at once and count."""

    def __init__(self) -> None:
        self.count = 0

    async def hinted(self) -> None:
        self.count += 1


class Hooked:
    """Two tailnets with a webhook each, at ``/hook/one`` and ``/hook/two``."""

    def __init__(self, *, throttled: bool = True) -> None:
        self.clock, self.looks, self.strangers = FakeClock(), CountedLooks(), Counter[str]()
        self.vaults = {name: MemoryVault() for name in ("one", "two")}
        self.hooks = {
            name: Webhook(f"{URL}/hook/{name}", vault, self.looks, self.clock, FakeEntropy(name))
            for name, vault in self.vaults.items()
        }
        # An allowance that is never used up is one that is forgiven at once.
        failures = MemoryFailures()
        throttle = Throttle(failures, self.clock) if throttled else _Patient(failures, self.clock)
        hooks = Hooks(self.hooks, self.strangers, throttle, MAX_BODY_BYTES)
        self.app = application(Parts(api=[], web=[hook_handler(hooks)]))
        self.http = client(self.app)

    async def secret(self, name: str = "one") -> str:
        return (await self.hooks[name].add(by="ana")).secret

    async def post(self, headers: dict[str, str], body: bytes, name: str = "one") -> httpx.Response:
        # As bytes: whatever a stranger sends is Latin-1 to HTTP.
        raw = {k.encode(): v.encode("utf-8", "surrogatepass") for k, v in headers.items()}
        return await self.http.post(f"/hook/{name}", headers=raw, content=body)

    async def raw(
        self,
        receive: Callable[[], Awaitable[Message]],
        headers: list[tuple[bytes, bytes]],
        name: str = "one",
    ) -> list[Message]:
        """Call the application as the edge does; return what it sent."""
        sent: list[Message] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope: Any = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": f"/hook/{name}",
            "raw_path": f"/hook/{name}".encode(),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "state": {},
        }
        await self.app(scope, receive, send)  # type: ignore[arg-type]
        return sent


class _Patient(Throttle):
    """Counts nothing."""

    async def failed(self, allowance: Any, who: str) -> None:
        pass
