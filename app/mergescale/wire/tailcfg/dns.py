"""tailcfg.DNSConfig and its parts (spec 4.9)."""

from __future__ import annotations

from msgspec import field

from mergescale.wire.tailcfg.names import Wire


class Resolver(Wire, frozen=True, kw_only=True):
    """dnstype.Resolver.

    Attributes:
        addr: an IP, ``https://`` (DoH providers known to the client) or ``http://node:port/path``.
            WIRE(rust): anything else makes the Rust client drop the whole message.
        bootstrap_resolution: addresses of a DoH server's name; left out when empty.
        use_with_exit_node: WIRE(capver 125): keep using it while an exit node is in use.
    """

    addr: str
    bootstrap_resolution: tuple[str, ...] = ()
    use_with_exit_node: bool = False


class DNSRecord(Wire, frozen=True, kw_only=True):
    """tailcfg.DNSRecord: one name that MagicDNS answers itself.

    Attributes:
        name: with or without trailing dot.
        type: empty (by `value`), ``A`` or ``AAAA``; clients ignore others.
        value: an IP of that family.
    """

    name: str
    type: str = ""
    value: str


class DNSConfig(Wire, frozen=True, kw_only=True):
    """tailcfg.DNSConfig; the empty object means "no DNS from control".

    Attributes:
        resolvers: global; not empty overrides the node's own DNS.
        routes: split DNS by suffix; an empty list means MagicDNS answers for that suffix.
        fallback_resolvers: where the OS cannot split DNS without a default.
        domains: search domains without trailing dot; holds the MagicDNS suffix.
        proxied: MagicDNS on.
        nameservers: dead since capability version 14; never set.
        cert_domains: names the node may get certificates for.
        extra_records: names outside the tailnet that MagicDNS answers.
        exit_node_filtered_set: suffixes an exit node must not answer.
    """

    resolvers: tuple[Resolver, ...] = ()
    routes: dict[str, tuple[Resolver, ...]] = field(default_factory=dict)
    fallback_resolvers: tuple[Resolver, ...] = ()
    domains: tuple[str, ...] = ()
    proxied: bool = False
    nameservers: tuple[str, ...] = ()
    cert_domains: tuple[str, ...] = ()
    extra_records: tuple[DNSRecord, ...] = ()
    exit_node_filtered_set: tuple[str, ...] = ()
