"""Where secrets for the outside are kept: of the repository, the forge, webhooks, notifications.

    purpose -> (what it is bound to, the secret)

INVARIANT(bound): a secret is only ever returned to who names what it was given for. Who names
something else makes the vault forget it, so that a changed URL can never be sent what was meant for
another one, not even after it is changed back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from mergescale.domain.held import Held, HeldDamaged

__all__ = ["FORGE", "NOTIFY", "REPOSITORY", "WEBHOOK", "Held", "HeldDamaged", "Vault"]

#: Purposes; whoever owns one chooses what its value looks like.
REPOSITORY: Final = "repository"
FORGE: Final = "forge"
WEBHOOK: Final = "webhook"
NOTIFY: Final = "notify"


class Vault(Protocol):
    """The secrets of one tailnet; `store.vault.SqlVault` is the real one.

    Every method raises StoreUnavailable when the database does not answer.
    """

    async def find(self, purpose: str, bound_to: str) -> bytes | None:
        """Return the secret, None if there is none for this.

        One that was stored for another `bound_to` is dropped.

        Raises:
            HeldDamaged: it does not open.
        """
        ...

    async def put(self, purpose: str, bound_to: str, value: bytes) -> None:
        """Keep a secret in the place of whatever was kept for the purpose."""
        ...

    async def drop(self, purpose: str) -> bool:
        """Forget the secret; say whether there was one."""
        ...

    async def held(self) -> Mapping[str, Held]:
        """Return purpose -> what may be told of its secret."""
        ...
