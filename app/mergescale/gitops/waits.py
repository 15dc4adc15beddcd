"""How long others ask to be left alone."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

#: LIMIT: seconds that are waited for whoever asks for more, or does not say how many.
LONGEST_S: Final = 3600.0
USUAL_S: Final = 60.0


def asked_s(retry_after: str, now_s: float) -> float | None:
    """Return the seconds that a ``Retry-After`` asks for; None if it is none.

    SPEC(RFC 9110 10.2.3): seconds, or a date.

    Args:
        retry_after: the header's value.
        now_s: seconds since 1970.
    """
    text = retry_after.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:12])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return moment.timestamp() - now_s


def bounded_s(asked: float | None) -> float:
    """Return the seconds to wait for whoever asked for so many, or for some."""
    return min(max(1.0, USUAL_S if asked is None else asked), LONGEST_S)
