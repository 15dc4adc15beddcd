"""Durations as Go reads and writes them (Go's ``time`` package), in nanoseconds."""

from __future__ import annotations

import re
from typing import Final

from mergescale.policy.diagnostics import quoted

_NS: Final = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,
    "\u03bcs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
SECOND: Final = _NS["s"]
MINUTE: Final = _NS["m"]
HOUR: Final = _NS["h"]
#: LIMIT: Go keeps a duration in 63 bits.
_MAX: Final = 2**63 - 1
_PART: Final = re.compile(r"([0-9]*)(\.[0-9]*)?([^0-9.]*)")


def parse_duration(text: str) -> int | str:
    """Return nanoseconds, or what is wrong in Go's words."""
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    total, at = 0, 0
    while at < len(rest):
        part = _PART.match(rest, at)
        if part is None or not (part[1] or (part[2] or "").strip(".")):
            break
        whole, fraction, unit = part[1] or "0", (part[2] or "").lstrip("."), part[3]
        if unit not in _NS:
            return _bad_unit(unit, text)
        if len(whole) > len(str(_MAX)):
            break
        # LIMIT: digits after the eighteenth are below a nanosecond in every unit.
        nanoseconds = int(whole) * _NS[unit]
        nanoseconds += int(fraction[:18] or "0") * _NS[unit] // 10 ** len(fraction[:18])
        total, at = total + nanoseconds, part.end()
    if at == 0 or at < len(rest) or total > _MAX:
        return f"time: invalid duration {quoted(text)}"
    return sign * total


def _bad_unit(unit: str, text: str) -> str:
    if not unit:
        return f"time: missing unit in duration {quoted(text)}"
    return f"time: unknown unit {quoted(unit)} in duration {quoted(text)}"


def duration_text(nanoseconds: int) -> str:
    """Return a duration as Go prints it, e.g. ``168h0m1s``, ``1.5s``, ``20ms``."""
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if rest < SECOND:
        unit = next((u for u in ("ms", "\u00b5s", "ns") if rest >= _NS[u]), "s")
        return f"{sign}{_decimal(rest, _NS[unit])}{unit}"
    hours, rest = divmod(rest, HOUR)
    minutes, rest = divmod(rest, MINUTE)
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{head}{_decimal(rest, SECOND)}s"


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    if not rest:
        return str(whole)
    return f"{whole}.{str(rest).rjust(len(str(unit)) - 1, '0').rstrip('0')}"
