"""Ports and IP protocols, as ``acls``, ``grants`` and ``tests`` write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_PORT: Final = 65535
_MAX_PROTOCOL: Final = 255

#: Names that a policy may use for IP protocol numbers (IANA's registry, the hosted service's names).
PROTOCOLS: Final = {
    "icmp": 1,
    "igmp": 2,
    "ipv4": 4,
    "ip-in-ip": 4,
    "tcp": 6,
    "egp": 8,
    "igp": 9,
    "udp": 17,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "ipv6-icmp": 58,
    "sctp": 132,
    "fc": 133,
}
#: Protocols that have ports: TCP, UDP, SCTP.
WITH_PORTS: Final = frozenset({6, 17, 132})
#: SPEC(control 5.1): what no protocol means: ICMP, TCP, UDP, ICMPv6.
DEFAULT_PROTOCOLS: Final = frozenset({1, 6, 17, 58})


@dataclass(frozen=True, slots=True, order=True)
class Ports:
    """Ports `first` to `last`, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        if self == ALL_PORTS:
            return "*"
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    def __contains__(self, port: int) -> bool:
        return self.first <= port <= self.last


ALL_PORTS: Final = Ports(0, MAX_PORT)


def parse_ports(text: str) -> tuple[Ports, ...] | str:
    """Read ``*``, ``80``, ``80-90`` or a list of them; return what is wrong as text."""
    if text == "*":
        return (ALL_PORTS,)
    found: list[Ports] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        low, high = _number(first, MAX_PORT), _number(last if dash else first, MAX_PORT)
        if low is None:
            return f'port range "{part.strip()}": invalid first integer'
        if high is None:
            return f'port range "{part.strip()}": invalid last integer'
        if low > high:
            return f'port range "{part.strip()}": the first port is above the last'
        found.append(Ports(low, high))
    return tuple(found)


def parse_protocol(text: str) -> tuple[int, ...] | str:
    """Read a protocol's name or number; empty means the default ones. Return what is wrong."""
    if text in {"", "*"}:
        return ()
    number = PROTOCOLS.get(text)
    if number is None:
        number = _number(text, _MAX_PROTOCOL)
    return f'protocol "{text}" is not known' if number is None else (number,)


def _number(text: str, limit: int) -> int | None:
    """Return a decimal without sign or leading zero, None when it is none or above the limit."""
    plain = text.isascii() and text.isdigit() and len(text) <= len(str(limit))
    if not plain or (len(text) > 1 and text.startswith("0")):
        return None
    number = int(text)
    return number if number <= limit else None
