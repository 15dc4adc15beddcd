"""The plan as JSON, version 1; field names are part of the public API and only ever added to."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Final

import msgspec

VERSION: Final = 1


class Verdict(StrEnum):
    """What the change does to who may reach what."""

    NO_EFFECT = "no effect"
    WIDENING = "widening"
    NARROWING = "narrowing"
    MIXED = "mixed"


class Reach(msgspec.Struct, frozen=True):
    """Reachability that is gained or lost.

    Attributes:
        src, dst: selectors where some make up the set, names of nodes and addresses for the rest.
        ip: protocols and ports as a grant spells them.
        pairs: of nodes.
        rules: ``file:line:column`` of those that it comes from: of the head what is gained, of the
            base what is lost.
    """

    src: tuple[str, ...]
    dst: tuple[str, ...]
    ip: tuple[str, ...]
    pairs: int
    rules: tuple[str, ...] = ()


class Grant(msgspec.Struct, frozen=True):
    """What may be done besides sending packets, gained or lost.

    Attributes:
        src: as of `Reach`; empty for what the devices themselves may (``nodeAttrs``).
        dst: the same of the devices where.
        what: ``ssh as root (check every 12h)``, a capability with its value, or an attribute.
    """

    src: tuple[str, ...]
    dst: tuple[str, ...]
    what: str


class NodeEffect(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one node is told anew.

    Attributes:
        name: of the node.
        filter: its packet filter differs.
        peers_gained, peers_lost: names of nodes that it sees or no longer sees.
        routes: routes through others, or of its own, are used by others than before.
        ssh, capabilities: who may log in there, or what it may do, differs.
    """

    name: str
    filter: bool = False
    peers_gained: tuple[str, ...] = ()
    peers_lost: tuple[str, ...] = ()
    routes: bool = False
    ssh: bool = False
    capabilities: bool = False


class Identity(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who is what; each entry reads ``name: before -> after``.

    Attributes:
        roles: of people; the suspended are marked.
        groups: their members.
        tag_owners: who may give a tag.
        approvers: who may route a prefix, or be an exit node, without being asked.
        settings: of the tailnet, its DNS and its relays; address pools, and custom attributes.
        postures: their conditions, and what rules ask of devices.
    """

    roles: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    tag_owners: tuple[str, ...] = ()
    approvers: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    postures: tuple[str, ...] = ()


class Tests(msgspec.Struct, frozen=True, omit_defaults=True):
    """The policy's own tests under the change.

    Attributes:
        run: expectations of the head.
        newly_failing: they hold at the base, or are new, and fail now.
        failing: all that fail now.
        untested: where rules stand that are new or changed and that no test covers.
        gone: expectations of the base that the head does not have.
    """

    run: int = 0
    newly_failing: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    untested: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


class Blast(msgspec.Struct, frozen=True):
    """How much of the tailnet is concerned.

    Attributes:
        pairs: ordered pairs of nodes that gain or lose something.
        of: all ordered pairs.
        nodes: nodes that are told anything.
        connected, disconnected: pairs that get their first, or lose their last, connection.
        cut_off: names of nodes that could send something to somebody and can to nobody any more.
    """

    pairs: int
    of: int
    nodes: int
    connected: int = 0
    disconnected: int = 0
    cut_off: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """The part of all pairs that changes, 0 to 1."""
        return self.pairs / self.of if self.of else 0.0


class Delivery(msgspec.Struct, frozen=True):
    """What telling the clients costs, reckoned.

    Attributes:
        nodes: that are told anything.
        online: of these, connected now; the others hear of it when they come back.
        messages: that are sent at once.
        bytes: of JSON, before compression.
        seconds: until the last one has it, from the commit in force.
    """

    nodes: int = 0
    online: int = 0
    messages: int = 0
    bytes: int = 0
    seconds: float = 0.0


class Finding(msgspec.Struct, frozen=True):
    """What a gate says of the change.

    Attributes:
        gate: ``empty``, ``lockout``, ``blast`` or ``tests``.
        message: one sentence, with figures and without names.
        who: logins that it concerns.
        refuses: the change does not pass without an approval; else it is a warning.
    """

    gate: str
    message: str
    who: tuple[str, ...] = ()
    refuses: bool = True


class Plan(msgspec.Struct, frozen=True):
    """What a change will do.

    Attributes:
        version: of this form.
        verdict: more, less, both, or nothing; both as well for what is neither more nor less.
        gained, lost: who may send what to whom, with all names resolved.
        nodes: that are told something, the tailnet's settings apart.
        identity: who is what.
        tests: the policy's own.
        blast: how much of the tailnet is concerned.
        hash: SHA-256 over base tree, head tree, inventory and compiler; equal for equal plans.
        edges_gained, edges_lost: ``src -> dst`` between groups, tags and the like that could send
            each other nothing before, or can send each other nothing any more.
        grants_gained, grants_lost: logins over SSH, capabilities of applications, attributes.
        absent_gained, absent_lost: logins and tags without a device to which rules give more, or
            less, once they have one.
        unresolved: logins, tags, groups and services of entries that nobody and no device is.
        gates: what the gates say; empty where none was asked.
        delivery: what it costs to tell the clients.
        redacted: ``names`` or ``counts`` for a plan that does not tell everything, else ``full``.
    """

    version: int
    hash: str
    verdict: Verdict
    gained: tuple[Reach, ...] = ()
    lost: tuple[Reach, ...] = ()
    edges_gained: tuple[str, ...] = ()
    edges_lost: tuple[str, ...] = ()
    nodes: tuple[NodeEffect, ...] = ()
    identity: Identity = Identity()
    tests: Tests = Tests()
    blast: Blast = Blast(0, 0, 0)
    unresolved: tuple[str, ...] = ()
    gates: tuple[Finding, ...] = ()
    delivery: Delivery = Delivery()
    redacted: str = "full"
    grants_gained: tuple[Grant, ...] = ()
    grants_lost: tuple[Grant, ...] = ()
    absent_gained: tuple[str, ...] = ()
    absent_lost: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """Say whether a gate lets it through only with an approval."""
        return any(one.refuses for one in self.gates)


def effect_of(plan: Plan | None) -> str:
    """Return a hash of what a plan says will happen, whatever the trees it was made of.

    Tests, gates and what delivering costs are no part of it; empty for no plan.
    """
    if plan is None:
        return ""
    effect = (
        *(plan.verdict, *map(_nowhere, (plan.gained, plan.lost)), plan.edges_gained),
        *(plan.edges_lost, plan.grants_gained, plan.grants_lost),
        *(plan.absent_gained, plan.absent_lost),
        *(plan.nodes, plan.identity, plan.unresolved),
    )
    return hashlib.sha256(msgspec.json.encode(effect)).hexdigest()


def _nowhere(rows: tuple[Reach, ...]) -> list[Reach]:
    """Return rows without where their rules stand: a comment above moves all of them."""
    return [msgspec.structs.replace(one, rules=()) for one in rows]


def encode(plan: Plan) -> bytes:
    """Return the plan as JSON, indented."""
    return msgspec.json.format(msgspec.json.encode(plan), indent=2) + b"\n"


def decode(text: bytes) -> Plan:
    """Read a plan; raises msgspec.DecodeError for what is none."""
    return msgspec.json.decode(text, type=Plan)
