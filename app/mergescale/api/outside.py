"""What the handlers work with where a tailnet meets the outside: forges, and who is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class MadeSecret(Protocol):
    """A secret that was just made."""

    @property
    def id(self) -> str:
        """Return what it is dropped by."""
        ...

    @property
    def secret(self) -> str:
        """Return the secret itself."""
        ...


class Webhooks(Protocol):
    """The webhook of one tailnet; `gitops.webhooks.Webhook`."""

    @property
    def url(self) -> str:
        """Return where forges send deliveries."""
        ...

    async def add(self, *, by: str) -> MadeSecret:
        """Make a secret."""
        ...

    async def drop(self, secret: str, *, by: str) -> None:
        """Forget one."""
        ...

    async def told(self) -> list[dict[str, Any]]:
        """Return what may be told of all."""
        ...


class Channels(Protocol):
    """Who is told of one tailnet's repository; `gitops.notices.channels.Channels`."""

    async def told(self) -> list[dict[str, Any]]:
        """Return what may be told of them."""
        ...

    async def keep_secret(self, name: str, secret: str | None, *, by: str) -> str | None:
        """Keep the secret of one; with None make it and return it."""
        ...

    async def try_out(self, name: str) -> None:
        """Send a test to one."""
        ...


class ForgeDesk(Protocol):
    """The forge of one tailnet's repository; `server.reporting.Reporting`."""

    async def pulls(self) -> list[dict[str, Any]]:
        """Return the open pull requests and what is known of them."""
        ...

    async def told(self) -> dict[str, Any]:
        """Return where it is, and what may be told of its token."""
        ...

    async def give(self, words: Mapping[str, Any], *, by: str) -> None:
        """Keep what opens its API."""
        ...

    async def take(self, *, by: str) -> None:
        """Forget that."""
        ...
