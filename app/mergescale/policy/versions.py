"""Comparing version texts, as posture conditions do.

SPEC(hosted service, "Device posture"): runs of digits compare as numbers, what stands between them
as text, and the end of a version is less than anything.
"""

from __future__ import annotations

import re
from typing import Final

#: A version is a sequence of these; either part may be empty, not both.
_STEP: Final = re.compile(r"([^0-9]*)([0-9]*)")

Version = tuple[tuple[bytes, int], ...]


def version(text: str) -> Version:
    """Return a value that orders as versions do: ``1.9`` before ``1.10``, ``12`` before ``12.0``."""
    steps = (found.groups() for found in _STEP.finditer(text) if found[0])
    # LIMIT: numbers beyond 64 bits are no versions; as texts of that length they would be slow.
    return tuple((words.encode(), int(digits[:19] or 0)) for words, digits in steps)
