"""Settings of a tailnet (``tailnet.hujson``), its DNS and its relays, as declared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

#: LIMIT: what the hosted service uses when nothing is said.
DEFAULT_KEY_EXPIRY: Final = timedelta(days=180)


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``tailnet.hujson`` says.

    Attributes:
        domain: display name of the tailnet (tailcfg.MapResponse.Domain); empty: its own name.
        magic_dns_suffix: what follows a node's label; empty: ``<tailnet>.tailnet.internal``.
        key_expiry: life of a user-owned node's key; None for never. Tagged nodes never expire.
        device_approval: new nodes wait for an operator unless their key is preauthorized.
        ephemeral_timeout: how long an ephemeral node may be offline before it is removed.
        randomize_client_port: clients choose a random WireGuard port.
        open_without_rules: a policy with neither ``acls`` nor ``grants`` allows everything.
    """

    domain: str = ""
    magic_dns_suffix: str = ""
    key_expiry: timedelta | None = DEFAULT_KEY_EXPIRY
    device_approval: bool = False
    ephemeral_timeout: timedelta = timedelta(minutes=5)
    randomize_client_port: bool = False
    open_without_rules: bool = False


@dataclass(frozen=True, slots=True)
class ExtraRecord:
    """A fixed DNS answer (tailcfg.DNSRecord); `type` is ``A`` or ``AAAA``."""

    name: str
    type: str
    value: str


@dataclass(frozen=True, slots=True)
class Dns:
    """What ``dns.hujson`` says.

    Attributes:
        magic_dns: nodes answer for each other's names.
        nameservers: addresses or DoH URLs for everything else.
        override_local: use `nameservers` instead of the device's own, not only beside them.
        split: suffix (no dots at its ends) -> nameservers for it.
        search: search domains after the tailnet's own.
    """

    magic_dns: bool = True
    nameservers: tuple[str, ...] = ()
    override_local: bool = False
    split: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    search: tuple[str, ...] = ()
    records: tuple[ExtraRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class RelayNode:
    """One DERP server (tailcfg.DERPNode); names and defaults are tailcfg's."""

    name: str
    host_name: str
    cert_name: str = ""
    ipv4: str = ""
    ipv6: str = ""
    stun_port: int = 0
    stun_only: bool = False
    derp_port: int = 0
    insecure_for_tests: bool = False
    can_port80: bool = False


@dataclass(frozen=True, slots=True)
class RelayRegion:
    """One DERP region (tailcfg.DERPRegion); ids 900-999 are for private use."""

    id: int
    code: str
    name: str
    nodes: tuple[RelayNode, ...]
    no_measure_no_home: bool = False


@dataclass(frozen=True, slots=True)
class Relays:
    """What ``derp.hujson`` says: the regions, and whether the server's own is added."""

    regions: tuple[RelayRegion, ...] = ()
    embedded: bool = True
