"""A machine key short enough for a person to compare.

Shown on the page of a login and by the command that approves it, so that an operator approves the
machine that asked and not one that asked at the same time.
"""

from __future__ import annotations

import base64
import hashlib

from mergescale.kernel.keys import MachineKey

#: LIMIT: bytes of the hash: 80 bits are out of reach for whoever looks for a key that looks alike.
_BYTES = 10
_GROUP = 4


def fingerprint(key: MachineKey) -> str:
    """Return four groups of four base32 digits of the key's SHA-256: ``k7qf-2m5d-xa4t-rwe3``."""
    digest = hashlib.sha256(str(key).encode()).digest()[:_BYTES]
    digits = base64.b32encode(digest).decode().lower()
    return "-".join(digits[i : i + _GROUP] for i in range(0, len(digits), _GROUP))
