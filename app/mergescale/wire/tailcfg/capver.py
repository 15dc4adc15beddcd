"""Capability versions: whom we serve, and what a client of some version may be sent.

A client states its version in each request and in the Noise initiation (tailcfg's
CurrentCapabilityVersion; spec 8). The list holds what a server must tell apart among the versions
it serves. What every version from `MINIMUM` on understands has no name here: read-only streaming
requests (68), CapMap (74), PacketFilters (81), PeerChange.CapMap (89), IsJailed (94), IPv6
masquerade (104).

The Rust client states 130 and lacks display messages, c2n handlers and SSH: a version promises that
a message parses, not that a feature exists.
"""

from __future__ import annotations

from typing import Final

#: Oldest version served; 102 to 105 can crash in their own crypto routing.
MINIMUM: Final = 106
MINIMUM_RELEASE: Final = "1.74"
#: Newest version whose changes were read. Newer clients are served alike.
CURRENT: Final = 145

#: ``cap:<node capability>`` as a filter rule's source.
CAP_SOURCES: Final = 109
#: Node.HomeDERP; older clients need the legacy ``DERP`` text.
HOME_DERP: Final = 111
#: An absent Node.AllowedIPs means Addresses; older clients need it spelled out.
IMPLICIT_ALLOWED_IPS: Final = 112
#: Hostinfo.IngressEnabled tells Funnel in use from Funnel wired (WireIngress).
INGRESS_ENABLED: Final = 113
#: DERPRegion.NoMeasureNoHome; older clients know the deprecated Avoid only.
NO_MEASURE_NO_HOME: Final = 115
#: AAAA answers of MagicDNS with the ``magicdns-aaaa`` attribute.
MAGICDNS_AAAA: Final = 116
#: MapResponse.DisplayMessages; older clients read Health.
DISPLAY_MESSAGES: Final = 117
#: Location.Priority counts when an exit node is chosen.
LOCATION_PRIORITY: Final = 119
#: Peer relays (``tailscale.com/cap/relay``), both the server and the client part.
PEER_RELAY: Final = 120
#: Resolver.UseWithExitNode.
RESOLVER_WITH_EXIT_NODE: Final = 125
#: c2n ``/debug/netmap``.
C2N_NETMAP: Final = 127
#: c2n ``/debug/health``.
C2N_HEALTH: Final = 128
#: MapRequest.HardwareAttestationKey and its signature.
HARDWARE_ATTESTATION: Final = 130
#: The ``default-auto-update`` capability; older clients read DefaultAutoUpdate.
DEFAULT_AUTO_UPDATE: Final = 131
#: ``cache-network-maps``: the client may start from a stored map.
CACHED_NETMAPS: Final = 135
#: A 429 to ``/machine/register`` with Retry-After is understood; older clients show it as an error.
REGISTER_RETRY_AFTER: Final = 137


def is_supported(version: int) -> bool:
    """Say whether a client of this version is served."""
    return version >= MINIMUM


def refuse_text(version: int) -> str:
    """Return what a client that is too old is told; it shows the text to its user."""
    return (
        f"this client is too old (capability version {version}): "
        f"update to Tailscale {MINIMUM_RELEASE} (capability version {MINIMUM}) or later"
    )
