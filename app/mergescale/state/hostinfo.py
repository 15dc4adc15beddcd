"""What follows from what a device says of itself: its name, its home relay, its routes.

A register request and a lite update both carry a Hostinfo, and both mean the same by it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import msgspec

from mergescale.domain.node import Node
from mergescale.domain.prefixes import sort_key
from mergescale.domain.snapshot import Snapshot
from mergescale.state import names
from mergescale.state.routes import auto_approved
from mergescale.wire.tailcfg.hostinfo import Hostinfo

_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SORTED: Final = msgspec.json.Encoder(order="sorted")
_HOSTNAME: Final = msgspec.json.Decoder(str)
_NOTHING: Final = b"{}"


def observe(snapshot: Snapshot, node: Node, hostinfo: Hostinfo) -> Node:
    """Return the node after it said this of itself.

    A changed host name renames it unless its name is pinned; newly advertised routes go past the
    policy's autoApprovers. An empty object says nothing and changes nothing.
    """
    if hostinfo.raw in {_NOTHING, node.hostinfo}:
        return replace(node, approved=auto_approved(snapshot, node))
    stored = _MEMBERS.decode(node.hostinfo)
    seen = replace(
        node,
        name=_name(snapshot, node, stored, hostinfo),
        hostinfo=_with_net_info(hostinfo, stored),
        home_derp=node.home_derp if hostinfo.net_info is None else hostinfo.home_derp,
        advertised=tuple(sorted(set(hostinfo.routes), key=sort_key)),
    )
    return replace(seen, approved=auto_approved(snapshot, seen))


def hostname_of(node: Node) -> str:
    """Return the host name as the device last said it; empty if it never did."""
    return _hostname(_MEMBERS.decode(node.hostinfo))


def _name(
    snapshot: Snapshot, node: Node, stored: dict[str, msgspec.Raw], hostinfo: Hostinfo
) -> str:
    if node.name_pinned or not hostinfo.hostname or hostinfo.hostname == _hostname(stored):
        return node.name
    return names.free(snapshot, hostinfo.hostname, node.id)


def _hostname(stored: dict[str, msgspec.Raw]) -> str:
    raw = stored.get("Hostname")
    return "" if raw is None else _HOSTNAME.decode(raw)


def _with_net_info(hostinfo: Hostinfo, stored: dict[str, msgspec.Raw]) -> bytes:
    """Return the JSON to store.

    SPEC(control-protocol 3.6): without NetInfo the last one holds; clients send it on change.
    """
    known = stored.get("NetInfo")
    if hostinfo.net_info is not None or known is None:
        return hostinfo.raw
    return _SORTED.encode(_MEMBERS.decode(hostinfo.raw) | {"NetInfo": known})
