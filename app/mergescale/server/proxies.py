"""Reverse proxies in front of the server: whose word about the client is believed.

For the outer application uvicorn does this (``forwarded_allow_ips``); an upgrade leaves HTTP before
its turn comes, so the same rule stands here once more.

INVARIANT(proxies): ``X-Forwarded-*`` counts only on a connection that comes from a trusted address,
and of ``X-Forwarded-For`` only what trusted addresses wrote: read from the right, the first address
that is not trusted is the client. Whatever stands left of it the client may have made up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

Address = tuple[str, int]
Headers = Iterable[tuple[bytes, bytes]]


def parse_proxies(texts: Sequence[str]) -> tuple[str, ...]:
    """Check addresses and networks of trusted proxies.

    Raises:
        ValueError: one is no address, or a network of everybody.
    """
    for text in texts:
        try:
            network = ip_network(text)
        except ValueError:
            raise ValueError(f'"{text}" is no address and no network') from None
        if network.prefixlen == 0:
            raise ValueError(f'"{text}" is everybody; name the addresses of the proxies')
    return tuple(texts)


class Proxies:
    """The trusted ones."""

    def __init__(self, trusted: Sequence[str]) -> None:
        self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(map(ip_network, trusted))

    def trusts(self, host: str) -> bool:
        """Say whether the host is the address of a trusted proxy."""
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self._networks)

    def client(self, peer: Address | None, headers: Headers) -> Address | None:
        """Return who asks: the peer, or whoever a trusted peer names."""
        if peer is None or not self._networks or not self.trusts(peer[0]):
            return peer
        texts = [value.decode("latin-1") for name, value in headers if name == b"x-forwarded-for"]
        named = [one.strip() for one in ",".join(texts).split(",")]
        for text in reversed(named):
            found = _address(text)
            if found is None:
                return peer  # what a proxy wrote makes no sense; it is the last one we know
            if not self.trusts(found[0]):
                return found
            peer = found
        return peer

    def tls(self, peer: Address | None, headers: Headers, *, direct: bool) -> bool:
        """Say whether the client speaks TLS: to us, or to a trusted proxy that says so."""
        if peer is None or not self._networks or not self.trusts(peer[0]):
            return direct
        said = [value.strip().lower() for name, value in headers if name == b"x-forwarded-proto"]
        return said[-1] in {b"https", b"wss"} if said else direct


def _address(text: str) -> Address | None:
    """Read ``192.0.2.1``, ``192.0.2.1:80``, ``2001:db8::1`` or ``[2001:db8::1]:80``."""
    host, port = text, ""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        return str(ip_address(host)), int(port) if port.isdecimal() else 0
    except ValueError:
        return None
