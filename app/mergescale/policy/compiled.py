"""What compilation makes of a document: numbered sources and targets, and rules between them.

Distinct source lists and distinct targets are numbered, so that what a node is to the whole
policy is two ints: the sources it is in and the targets it is among.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from mergescale.domain.access import Access, Capabilities
from mergescale.domain.declaration import Policy
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.errors import LocalProtocolError
from mergescale.policy.attributes import Attributes
from mergescale.policy.diagnostics import Span
from mergescale.policy.document import PolicyDocument
from mergescale.policy.ownership import Ownership
from mergescale.policy.ports import Ports
from mergescale.policy.postures import Attribute, Posture, evaluate
from mergescale.policy.principals import GroupsOf, Principal
from mergescale.policy.segments import NOWHERE, Segments
from mergescale.policy.selectors import Range
from mergescale.policy.ssh.compiled import CompiledSsh


@dataclass(frozen=True, slots=True)
class SourceList:
    """The sources of a rule.

    Attributes:
        principals: their nodes' addresses are listed.
        ranges: listed as written.
        everyone: ``*``: all tailnet addresses and all approved subnet routes.
        anyone: ``autogroup:danger-all``: every address there is.
        postures: ``srcPosture``: devices need one of them; then only devices are listed, by their
            own addresses, since nothing is known of what lies behind a router. Empty for none.
    """

    principals: frozenset[Principal]
    ranges: frozenset[Range]
    everyone: bool
    anyone: bool = False
    postures: frozenset[str] = frozenset()

    @property
    def empty(self) -> bool:
        """Say whether it can never list anything."""
        return not (self.principals or self.ranges or self.everyone or self.anyone)


class Wide(StrEnum):
    """Targets that are neither named nodes nor written addresses.

    Attributes:
        ANYTHING: ``*``.
        INTERNET: public addresses, through exit nodes.
        OWN_DEVICES: untagged nodes of the source's own user.
    """

    ANYTHING = "*"
    INTERNET = "autogroup:internet"
    OWN_DEVICES = "autogroup:self"


@dataclass(frozen=True, slots=True)
class Steered:
    """Addresses behind routers, through those routers only that have one of the tags (``via``)."""

    to: Range | Wide
    via: frozenset[Principal]


@dataclass(frozen=True, slots=True)
class Held:
    """Nodes by an address of their own; what they route does not count (``app``)."""

    at: Range


#: A target: nodes by name, addresses as written, one of the wide ones, or a narrowed one.
TargetKind = Principal | Range | Wide | Steered | Held


@dataclass(frozen=True, slots=True, eq=False)
class CompiledRule:
    """One chunk of filters.

    Attributes:
        name: of the chunk; hex, made from what the rule says.
        source: number of its `SourceList`.
        targets: number of the target, and ports of it.
        among: bits of those numbers.
        protocols: empty for the default ones.
        capabilities: what the sources have at the targets' nodes; empty for a rule about packets.
    """

    name: str
    source: int
    targets: tuple[tuple[int, Ports], ...]
    among: int
    protocols: tuple[int, ...]
    origin: Span
    capabilities: Capabilities = ()


@dataclass(frozen=True, slots=True)
class Lookup:
    """From what a node is to what it is in, for either side of the rules.

    Attributes:
        by_principal: principal -> bits of the numbers.
        by_address: the same for ranges, which addresses and subnet routes meet.
        always: bits that every node has.
        by_own_address: the same for ranges which only addresses meet.
        steered: targets through tagged routers, with their bits.
    """

    by_principal: Mapping[Principal, int]
    by_address: Segments
    always: int
    by_own_address: Segments = NOWHERE
    steered: tuple[tuple[int, Steered], ...] = ()

    def named(self, principals: frozenset[Principal]) -> int:
        """Return the bits that the names of a node give it."""
        bits = 0
        for principal in principals:
            bits |= self.by_principal.get(principal, 0)
        return bits


@dataclass(frozen=True, slots=True)
class Gates:
    """Which sources need a posture.

    Attributes:
        gated: bits of those sources.
        by_posture: the posture with its conditions, and the bits of the sources it opens.
    """

    gated: int = 0
    by_posture: tuple[tuple[Posture, int], ...] = ()

    def opened(self, attributes: Mapping[str, Attribute]) -> int:
        """Return the bits of the gated sources that a device with these attributes may be in."""
        bits = 0
        for posture, opens in self.by_posture:
            if evaluate(posture, attributes):
                bits |= opens
        return bits


@dataclass(frozen=True, slots=True, eq=False)
class CompiledPolicy:
    """A policy, not yet resolved against nodes; implements ``domain.declaration.Policy``.

    Attributes:
        rules: those whose targets do not depend on the source.
        own_rules: those to ``autogroup:self``; their `targets` number only carries ports.
        own_sources: bits of the sources of `own_rules`.
        internet: bit of the internet target, 0 if there is none.
        gates: sources whose devices need a posture.
        ssh: entries of ``ssh`` in the order that decides.
    """

    document: PolicyDocument
    rules: tuple[CompiledRule, ...]
    own_rules: tuple[CompiledRule, ...]
    sources: tuple[SourceList, ...]
    targets: tuple[TargetKind, ...]
    source_lookup: Lookup
    target_lookup: Lookup
    own_sources: int
    internet: int
    gates: Gates
    groups_of: GroupsOf
    ownership: Ownership
    attributes: Attributes
    ssh: tuple[CompiledSsh, ...] = ()

    def resolve(self, snapshot: Snapshot, before: Access | None = None) -> Access:
        """Resolve against the nodes and users of `snapshot`, taking over what stays the same."""
        from mergescale.policy.access import resolve

        return resolve(self, snapshot, before)


def compiled(policy: Policy) -> CompiledPolicy:
    """Return a declaration's policy as what it is.

    Raises:
        LocalProtocolError: it was not made by ``repository.declare``.
    """
    match policy:
        case CompiledPolicy():
            return policy
        case _:
            raise LocalProtocolError("the declaration was not made by `declare`")
