"""What a device is to posture conditions: attributes from what its client says of itself."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any, Final

from mergescale.domain.node import Node
from mergescale.policy.postures import Attribute

#: tailcfg.Hostinfo.IPNVersion: version, then where it was built from; the second number of a
#: version is even on the stable track.
_CLIENT: Final = re.compile(r"([0-9]+)\.([0-9]+)(\.[0-9]+)*")


def attributes_of(node: Node) -> dict[str, Attribute]:
    """Return the attributes of a device; those it says nothing about are not set.

    Lower-case names of systems, versions without the part after the number, and
    ``node:tsAutoUpdate`` from tailcfg.Hostinfo.AllowsUpdate, which clients leave out for no.
    """
    return _said(node.hostinfo) | {one.name: one.value for one in node.custom}


#: LIMIT: one for each of 16,000 nodes; what a client says changes less often than policies do.
@lru_cache(maxsize=16_384)
def _said(hostinfo: bytes) -> dict[str, Attribute]:
    """Return what a client says of its device; shared, so nobody may change it."""
    said = json.loads(hostinfo)
    found: dict[str, Attribute] = {"node:tsAutoUpdate": said.get("AllowsUpdate") is True}
    if system := _text(said, "OS"):
        found["node:os"] = system.casefold()
    if release := _text(said, "OSVersion"):
        found["node:osVersion"] = release
    if client := _CLIENT.match(_text(said, "IPNVersion")):
        found["node:tsVersion"] = client[0]
        found["node:tsReleaseTrack"] = "unstable" if int(client[2]) % 2 else "stable"
    encrypted = said.get("StateEncrypted")
    if isinstance(encrypted, bool):
        found["node:tsStateEncrypted"] = encrypted
    return found


def _text(said: dict[str, Any], member: str) -> str:
    value = said.get(member)
    return value if isinstance(value, str) else ""
