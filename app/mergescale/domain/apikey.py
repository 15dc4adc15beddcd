"""API tokens: what an operator or a tool shows to the REST API; and OAuth clients, which get some."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mergescale.kernel.ids import ApiKeyId


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API token; the text is ``mskey-api-<id>-<secret>`` and shown once.

    Or an OAuth client, ``mskey-client-<id>-<secret>``, which opens nothing by itself.

    Attributes:
        secret_hash: SHA-256 of the secret part, which has 256 random bits.
        expires: None for never (the administrator token of the first start, and OAuth clients).
        client_scopes: what an OAuth client may have tokens for; None for an API token.
    """

    id: ApiKeyId
    secret_hash: bytes
    description: str
    created: datetime
    expires: datetime | None = None
    last_used: datetime | None = None
    revoked: datetime | None = None
    client_scopes: tuple[str, ...] | None = None

    @property
    def is_client(self) -> bool:
        """Say whether it is an OAuth client."""
        return self.client_scopes is not None

    def usable(self, now: datetime) -> bool:
        """Say whether it still opens the API."""
        return self.revoked is None and (self.expires is None or now < self.expires)
