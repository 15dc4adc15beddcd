"""API tokens: what an operator or a tool shows to the REST API."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mergescale.kernel.ids import ApiKeyId


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API token; the text is ``mskey-api-<id>-<secret>`` and shown once.

    Attributes:
        secret_hash: SHA-256 of the secret part, which has 256 random bits.
        expires: None for never (the administrator token of the first start).
    """

    id: ApiKeyId
    secret_hash: bytes
    description: str
    created: datetime
    expires: datetime | None = None
    last_used: datetime | None = None
    revoked: datetime | None = None

    def usable(self, now: datetime) -> bool:
        """Say whether it still opens the API."""
        return self.revoked is None and (self.expires is None or now < self.expires)
