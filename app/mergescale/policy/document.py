"""A policy as it was written, typed and with places; every name in it is declared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network

from mergescale.domain.access import Capabilities
from mergescale.domain.prefixes import Prefix
from mergescale.domain.tailnet import Relays
from mergescale.domain.user import Role
from mergescale.policy.attrconfig import AttributeConfig
from mergescale.policy.diagnostics import Span
from mergescale.policy.ports import Ports
from mergescale.policy.postures import Attributes, Posture
from mergescale.policy.selectors import Range, Selector, Tag
from mergescale.policy.ssh.document import SshEntry, SshTest


@dataclass(frozen=True, slots=True)
class Target:
    """Where a rule leads: a destination, ports of it, and the protocols they are of.

    Attributes:
        protocols: IP protocol numbers, sorted; empty for the default ones.
    """

    selector: Selector
    ports: Ports
    protocols: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of ``acls`` or ``grants``: any of the sources may reach any of the targets.

    Attributes:
        origin: where the entry stands.
        holders: devices at which the sources have the `capabilities`.
        capabilities: of ``app``; sorted by name.
        via: tags of the routers that packets to subnets and to the internet go through; empty
            for any router.
        postures: of which the source's device needs one; empty for any device.
    """

    sources: tuple[Selector, ...]
    targets: tuple[Target, ...]
    origin: Span = field(compare=False)
    holders: tuple[Selector, ...] = ()
    capabilities: Capabilities = ()
    via: tuple[Tag, ...] = ()
    postures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RouteApproval:
    """One entry of ``autoApprovers.routes``."""

    prefix: Prefix
    approvers: tuple[Selector, ...]


@dataclass(frozen=True, slots=True)
class Probe:
    """One destination of a test: exactly one port.

    Attributes:
        text: as written, for messages.
    """

    selector: Selector
    port: int
    text: str
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class PolicyTest:
    """One entry of ``tests``.

    Attributes:
        protocols: what is asked for; empty for TCP or UDP, whichever is admitted.
        attributes: what the source's device is like, for rules that need a posture.
    """

    source: Selector
    accept: tuple[Probe, ...]
    deny: tuple[Probe, ...]
    protocols: tuple[int, ...]
    span: Span = field(compare=False)
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeAttribute:
    """One entry of ``nodeAttrs``: what the targets are told, and where they get addresses.

    Attributes:
        names: of ``attr``: capabilities without values.
        apps: capability -> its values, each a JSON text.
        pools: where new devices take their IPv4 address; empty for anywhere.
        system: devices of this operating system instead of the targets; empty for those.
        origin: where the entry stands.
    """

    targets: tuple[Selector, ...]
    names: tuple[str, ...] = ()
    apps: tuple[tuple[str, tuple[bytes, ...]], ...] = ()
    pools: tuple[IPv4Network, ...] = ()
    system: str = ""
    origin: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """A whole policy, ``users.hujson`` and ``tags.hujson`` joined in.

    Attributes:
        groups: ``group:x`` -> logins, lower case.
        hosts: name -> addresses.
        tag_owners: ``tag:x`` -> who may give it.
        tag_places: ``tag:x`` -> where it is declared.
        ip_sets: ``ipset:x`` -> what is in it, without overlaps.
        rules: of ``acls``, then of ``grants``, in order.
        roles: login, lower case -> role, as far as people are known.
        postures: ``posture:x`` -> its conditions.
        attribute_configs: ``custom:x`` -> what ``attrConfig`` says of it.
        relays: of ``derpMap``; None where the policy says nothing of relays.
    """

    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    hosts: Mapping[str, Range] = field(default_factory=dict)
    ip_sets: Mapping[str, tuple[Range, ...]] = field(default_factory=dict)
    tag_owners: Mapping[str, tuple[Selector, ...]] = field(default_factory=dict)
    tag_places: Mapping[str, Span] = field(default_factory=dict, compare=False)
    rules: tuple[Rule, ...] = ()
    route_approvals: tuple[RouteApproval, ...] = ()
    exit_approvers: tuple[Selector, ...] = ()
    tests: tuple[PolicyTest, ...] = ()
    roles: Mapping[str, Role] = field(default_factory=dict)
    node_attributes: tuple[NodeAttribute, ...] = ()
    ssh: tuple[SshEntry, ...] = ()
    ssh_tests: tuple[SshTest, ...] = ()
    postures: Mapping[str, Posture] = field(default_factory=dict)
    attribute_configs: Mapping[str, AttributeConfig] = field(default_factory=dict)
    relays: Relays | None = None
