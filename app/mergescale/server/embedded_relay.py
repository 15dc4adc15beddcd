"""The embedded relay: its service, how clients find it, where it listens.

Clients reach it on the main port if that speaks TLS, else on a listener of its own with a
self-signed certificate that they know by its fingerprint.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mergescale.domain.tailnet import RelayNode, RelayRegion
from mergescale.kernel.clock import Clock
from mergescale.kernel.keys import PrivateKey
from mergescale.relay.limits import Limits
from mergescale.relay.service import DerpService
from mergescale.relay.stun import StunServer
from mergescale.server.certificate import relay_certificate
from mergescale.server.listeners import TcpListener
from mergescale.server.settings import Listen, Settings, is_address
from mergescale.server.system import SystemEntropy
from mergescale.state.tailnets import Tailnets


@dataclass(frozen=True, slots=True)
class Relay:
    """The embedded relay.

    Attributes:
        region: how clients find it.
        listener: its own; None where it shares the main port.
        stun: answers clients that ask for their address.
    """

    service: DerpService
    region: RelayRegion
    listener: TcpListener | None
    stun: StunServer


@dataclass(frozen=True, slots=True)
class RelayKeys:
    """What the relay proves itself with: its key, and what opens its certificate's."""

    key: PrivateKey = field(repr=False)
    passphrase: bytes = field(repr=False)


def embedded_relay(
    settings: Settings, tailnets: Tailnets, keys: RelayKeys, clock: Clock, limits: Limits
) -> Relay | None:
    """Make the embedded relay, None if it is switched off."""
    if not settings.relay:
        return None
    service = DerpService(keys.key, tailnets.knows_node_key, SystemEntropy(), limits)
    pin, listener = "", None
    if not settings.relay_shares_main_port:
        pin, listener = _own_listener(settings, service, keys, clock)
    stun = Listen.parse(settings.stun_listen)
    region = _region(settings, pin)
    return Relay(service, region, listener, StunServer(stun.host, stun.port))


def _own_listener(
    settings: Settings, service: DerpService, keys: RelayKeys, clock: Clock
) -> tuple[str, TcpListener]:
    """Return the listener, and the name by which clients know its certificate."""
    certificate = relay_certificate(
        settings.state_dir / "relay.pem",
        host=_host(settings),
        relay_key=service.public_key,
        passphrase=keys.passphrase,
        now=clock.now(),
    )
    at = Listen.parse(settings.relay_listen)
    return certificate.pin, TcpListener(at.host, at.port, certificate.context(), "relay_listen")


def _region(settings: Settings, pin: str) -> RelayRegion:
    host = _host(settings)
    address = is_address(host)
    own_port = Listen.parse(settings.relay_listen).port
    node = RelayNode(
        name=f"{settings.relay_region}a",
        host_name=host,
        cert_name=pin,
        ipv4=host if address and ":" not in host else "none" if address else "",
        ipv6=host if address and ":" in host else "none" if address else "",
        stun_port=Listen.parse(settings.stun_listen).port,
        derp_port=settings.url_port if settings.relay_shares_main_port else own_port,
    )
    return RelayRegion(settings.relay_region, "mergescale", "Mergescale", (node,))


def _host(settings: Settings) -> str:
    return settings.relay_host or settings.url_host
