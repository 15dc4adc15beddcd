"""Small texts that several files hold: durations, domain names, addresses, groups, tags.

A pattern of a schema and the reader of the same text stand side by side here, so that an editor
and the server agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from ipaddress import ip_address
from typing import Any, Final

from mergescale.domain.prefixes import Address
from mergescale.policy.hujson import Kind, Value

#: Draft of every schema here; also what ``$schema`` of a schema says.
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

DURATION: Final = r"^([1-9][0-9]{0,6}d)?([1-9][0-9]{0,6}h)?([1-9][0-9]{0,6}m)?([1-9][0-9]{0,6}s)?$"
DOMAIN: Final = r"^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?\.?$"
GROUP: Final = r"^group:[A-Za-z0-9][A-Za-z0-9._-]*$"
TAG: Final = r"^tag:[A-Za-z][A-Za-z0-9-]*$"
LOGIN: Final = r"^[^\s@,:*\u0000-\u001f]+@[^\s@,:*\u0000-\u001f]*$"

_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_LONGEST_DOMAIN = 253


def document(
    title: str, description: str, properties: dict[str, Any], **more: Any
) -> dict[str, Any]:
    """Return the schema of a whole file; ``$schema`` is allowed in every one."""
    pointer = {
        "type": "string",
        "description": "Path or address of this file's JSON Schema, for editors.",
    }
    return {
        "$schema": DIALECT,
        "title": title,
        "description": description,
        "type": "object",
        "properties": {"$schema": pointer, **properties},
        "additionalProperties": False,
        **more,
    }


def fits(pattern: str, text: str) -> bool:
    """Match as ECMA 262 does, where ``$`` is the end of the text and nothing else."""
    return re.search(pattern, text) is not None and not text.endswith("\n")


def duration(text: str) -> timedelta | None:
    """Read ``180d``, ``12h``, ``1h30m``; None when it is none."""
    if not text or not fits(DURATION, text):
        return None
    seconds = sum(
        int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)([dhms])", text)
    )
    return timedelta(seconds=seconds)


def domain(text: str) -> str | None:
    """Return a domain name in lower case without a dot at its end; None when it is none."""
    plain = text.lower().removesuffix(".")
    return plain if len(plain) <= _LONGEST_DOMAIN and fits(DOMAIN, plain) else None


def address(text: str) -> Address | None:
    """Read an IP address without a zone; None when it is none."""
    try:
        return ip_address(text) if "%" not in text else None
    except ValueError:
        return None


def strings(value: Value | None) -> Iterator[tuple[str, Value]]:
    """Yield the strings of a list with their places; what is no string is the schema's business."""
    for item in value.items if value is not None else ():
        if item.kind is Kind.STRING:
            yield str(item.scalar), item


def string(value: Value | None) -> str | None:
    """Return the string, None when there is none."""
    return str(value.scalar) if value is not None and value.kind is Kind.STRING else None


def boolean(value: Value | None, *, default: bool) -> bool:
    """Return the boolean, or the default when there is none."""
    return bool(value.scalar) if value is not None and value.kind is Kind.BOOLEAN else default


def number(value: Value | None) -> int:
    """Return the whole number, 0 when there is none."""
    return value.scalar if value is not None and isinstance(value.scalar, int) else 0
