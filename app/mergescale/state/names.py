"""DNS labels of nodes: what becomes of a host name, and which number tells two laptops apart.

The rules are the hosted service's (tailscale ``util/dnsname``), so that a node keeps the name its
owner expects: lower case, separators to hyphens, everything else that DNS has no place for dropped.
"""

from __future__ import annotations

import re
from typing import Final

from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.errors import Invalid
from mergescale.kernel.ids import NodeId

#: LIMIT: RFC 1035 section 2.3.4, octets of a label.
MAX_LABEL_CHARS: Final = 63
#: What a device is called whose host name has nothing to make a label of.
FALLBACK: Final = "node"

#: What home routers and operating systems append; tailscale drops them in this order.
_LOCAL_SUFFIXES: Final = (".local", ".localdomain", ".lan")
_SEPARATORS: Final = re.compile(r"[ .@_]")
_FOREIGN: Final = re.compile(r"[^a-z0-9-]")
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")

#: LIMIT: numbers tried one by one; above that many namesakes a search in steps takes over, so that
#: ten thousand containers called alike do not cost ten thousand look-ups each.
_TRIED_IN_ORDER: Final = 64


def sanitise(hostname: str) -> str:
    """Return the label for a host name; `FALLBACK` when nothing of it remains."""
    text = hostname.lower()
    for suffix in _LOCAL_SUFFIXES:
        text = text.removesuffix(suffix)
    text = _FOREIGN.sub("", _SEPARATORS.sub("-", text)).strip("-")
    return text[:MAX_LABEL_CHARS].rstrip("-") or FALLBACK


def parse_label(text: str) -> str:
    """Return a label that an operator chose, in lower case.

    Raises:
        Invalid: not a DNS label.
    """
    label = text.strip().lower()
    if not _LABEL.fullmatch(label):
        raise Invalid(
            f'"{text[:80]}" is not a name for a node',
            help="use 1 to 63 letters, digits and inner hyphens",
        )
    return label


def free(snapshot: Snapshot, hostname: str, own: NodeId | None = None) -> str:
    """Return the first free of ``laptop``, ``laptop-1``, ``laptop-2``.

    Args:
        snapshot: whose names count.
        hostname: as the device says it; sanitised here.
        own: the node that is named; a label it holds counts as free.
    """
    base = sanitise(hostname)

    def taken(number: int) -> bool:
        return snapshot.names.get(_numbered(base, number), own) != own

    for number in range(_TRIED_IN_ORDER):
        if not taken(number):
            return _numbered(base, number)
    # INVARIANT(gap): `low` is taken and `high` is free, so some free number follows a taken one.
    low, high = _TRIED_IN_ORDER - 1, 2 * _TRIED_IN_ORDER
    while taken(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if taken(middle) else (low, middle)
    return _numbered(base, high)


def _numbered(base: str, number: int) -> str:
    """Return the label with its number; the base gives way when both are too long."""
    if number == 0:
        return base
    suffix = f"-{number}"
    return base[: MAX_LABEL_CHARS - len(suffix)].rstrip("-") + suffix
