"""What is told of a secret that is held for a tailnet; the secret itself is never part of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mergescale.kernel.errors import MergescaleError


@dataclass(frozen=True, slots=True)
class Held:
    """A secret that somebody gave and nobody gets back.

    Attributes:
        bound_to: what it is for, e.g. a URL; it is held for nothing else.
        created: when it was given.
        fingerprint: 16 hex digits; the same for the same secret on the same server, and without
            the server's master key no way to try guesses.
    """

    bound_to: str
    created: datetime
    fingerprint: str


class HeldDamaged(MergescaleError):
    """Raised when what is stored is not what was given, or does not open any more."""

    code = "vault.damaged"

    def __init__(self, purpose: str) -> None:
        super().__init__(
            f"the stored secret for the purpose '{purpose}' is damaged",
            help="give it again; the old one can only be dropped or replaced",
        )
