"""How attributes are spelled on the wire, and the base of every wire struct.

Attributes are Python's ``allowed_ips``; the wire has Go's ``AllowedIPs``. The spelling follows
from the attribute by a table of Go's initialisms; where tailcfg departs from it (lower-camel SSH
names, ``omitDefaultRegions``) the field states its name. The tests hold the whole list.
"""

from __future__ import annotations

from typing import Final

import msgspec

#: Words that Go does not merely capitalise.
INITIALISMS: Final = {
    "ace": "ACE",
    "api": "API",
    "derp": "DERP",
    "dns": "DNS",
    "icmpv4": "ICMPv4",
    "id": "ID",
    "ip": "IP",
    "ipn": "IPN",
    "ips": "IPs",
    "ipv4": "IPv4",
    "ipv6": "IPv6",
    "macs": "MACs",
    "nl": "NL",
    "os": "OS",
    "pcp": "PCP",
    "pmp": "PMP",
    "ssh": "SSH",
    "stun": "STUN",
    "tka": "TKA",
    "tpm": "TPM",
    "udp": "UDP",
    "upnp": "UPnP",
    "url": "URL",
    "wol": "WoL",
}


def go_name(attribute: str) -> str:
    """Return Go's spelling of a snake-case attribute: ``allowed_ips`` -> ``AllowedIPs``."""
    return "".join(INITIALISMS.get(word) or word.capitalize() for word in attribute.split("_"))


class Wire(msgspec.Struct, frozen=True, kw_only=True, rename=go_name, omit_defaults=True):
    """Base of the wire structs: frozen, by keyword, Go's names, defaults left out.

    Subclasses repeat ``frozen=True, kw_only=True``: msgspec and mypy ask for both on each class.
    A field without a default is always on the wire. A subclass whose every field must be sent
    (register's answer) turns ``omit_defaults`` off.
    """


class CamelWire(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of the few structs whose wire names start with a lower-case letter."""
