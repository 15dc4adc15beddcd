"""Pre-auth keys: what lets a machine join without a person in front of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mergescale.kernel.ids import AuthKeyId, UserId


@dataclass(frozen=True, slots=True)
class AuthKey:
    """A pre-auth key; the text is ``mskey-auth-<id>-<secret>`` and shown once.

    Attributes:
        secret_hash: SHA-256 of the secret part. The secret has 256 random bits, so a slow hash
            would add nothing but a way to exhaust the server.
        user: who owns the nodes it admits; None when `tags` own them.
        tags: sorted; not empty exactly when the key makes tagged nodes.
        reusable: may admit more than one node.
        ephemeral: its nodes are removed after they went offline.
        preauthorized: its nodes need no device approval.
        uses: nodes admitted so far.
        revoked: when an operator took it back.
    """

    id: AuthKeyId
    secret_hash: bytes
    description: str
    created: datetime
    expires: datetime
    user: UserId | None = None
    tags: tuple[str, ...] = ()
    reusable: bool = False
    ephemeral: bool = False
    preauthorized: bool = False
    uses: int = 0
    last_used: datetime | None = None
    revoked: datetime | None = None

    def usable(self, now: datetime) -> bool:
        """Say whether it may admit one more node."""
        spent = self.uses > 0 and not self.reusable
        return self.revoked is None and now < self.expires and not spent
