"""tailcfg.FilterRule and its parts: what may come in at the node that gets them (spec 5.1).

The deprecated SrcBits and NetPortRange.Bits have no place here: their mere presence makes a client
throw the whole filter away and block everything.
"""

from __future__ import annotations

from typing import Any, Final

from mergescale.kernel.errors import LocalProtocolError
from mergescale.wire.tailcfg.names import Wire


class PortRange(Wire, frozen=True, kw_only=True):
    """tailcfg.PortRange, both ends included; both members are always sent."""

    first: int
    last: int


#: 0 to 65535, which is every port.
ALL_PORTS: Final = PortRange(first=0, last=65535)


class NetPortRange(Wire, frozen=True, kw_only=True):
    """tailcfg.NetPortRange: a destination.

    Attributes:
        ip: an IP, a CIDR without host bits, ``a-b`` or ``*``.
        ports: for protocols without ports it is not looked at.
    """

    ip: str
    ports: PortRange


class CapGrant(Wire, frozen=True, kw_only=True):
    """tailcfg.CapGrant: application capabilities of the sources when they talk to `dsts`.

    Attributes:
        dsts: prefixes; a grant counts only where they hold the address the peer used, so both
            families of a node are named.
        cap_map: capability to values; ``()`` for a capability without values, never None. Values
            may be ``msgspec.Raw``.
    """

    dsts: tuple[str, ...]
    cap_map: dict[str, tuple[Any, ...]]


class FilterRule(Wire, frozen=True, kw_only=True):
    """tailcfg.FilterRule: either packets (`dst_ports`) or application capabilities (`cap_grant`).

    INVARIANT(rule kind): exactly one of the two is not empty, and `ip_proto` goes with the first
    only; the Rust client ends its stream on anything else.

    Attributes:
        src_ips: IPs, CIDRs without host bits, ``a-b``, ``*``, or from capability version 109
            ``cap:<node capability>``; always sent.
        dst_ports: where packets may go.
        ip_proto: IP protocol numbers; empty means TCP, UDP, ICMPv4 and ICMPv6.
        cap_grant: capabilities granted.
    """

    src_ips: tuple[str, ...]
    dst_ports: tuple[NetPortRange, ...] = ()
    ip_proto: tuple[int, ...] = ()
    cap_grant: tuple[CapGrant, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.dst_ports) == bool(self.cap_grant):
            raise LocalProtocolError("a filter rule has either destinations or a capability grant")
        if self.cap_grant and self.ip_proto:
            raise LocalProtocolError("a capability grant has no protocols")
