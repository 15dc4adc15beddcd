"""What a device is to posture conditions: attributes from what its client says of itself."""

from __future__ import annotations

import json
import re
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
    said = json.loads(node.hostinfo)
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
    found.update({one.name: one.value for one in node.custom})
    return found


def _text(said: dict[str, Any], member: str) -> str:
    value = said.get(member)
    return value if isinstance(value, str) else ""
