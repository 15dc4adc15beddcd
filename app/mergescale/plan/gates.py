"""Gates: what a change must not do unless somebody said so, from two snapshots of one tailnet.

Pure and cheap: only who may send anything to whom is compared, as bitsets, never filters; so the
server asks on every commit, before it is put in force.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import Role, User
from mergescale.kernel.ids import Slot
from mergescale.plan.model import Finding
from mergescale.policy.compiled import CompiledPolicy

#: LIMIT: in smaller tailnets rules are often about devices that are still to come.
FEW_NODES: Final = 10
#: LIMIT: smaller tailnets are not judged by shares: there half of everything is an ordinary change.
MANY_NODES: Final = 25
#: Who can put right what a change broke.
ADMINISTRATORS: Final = frozenset({Role.OWNER, Role.ADMIN, Role.NETWORK_ADMIN, Role.IT_ADMIN})


class Gate(StrEnum):
    """Names of the gates; part of the public API."""

    EMPTY = "empty"
    LOCKOUT = "lockout"
    BLAST = "blast"
    TESTS = "tests"


class Demand(StrEnum):
    """What is done about a policy without tests."""

    OFF = "off"
    WARN = "warn"
    REQUIRE = "require"


@dataclass(frozen=True, slots=True)
class Limits:
    """Which gates there are. The defaults let pass what teams do on ordinary days.

    Attributes:
        empty: refuse what leaves nobody who may send anything to anybody.
        lockout: refuse what takes all access, or the role, from administrators.
        blast_percent: refuse what begins or ends the connections of a larger share of all pairs of
            devices, in tailnets of `MANY_NODES` and more; 100 refuses nothing. Half: a new rule, a
            new group or a new team stay far below it, everything opened or closed does not.
            Ports of connections that stay do not count, so that a rule for everybody can be edited.
        tests: a policy without tests is told of only, since a first policy has none.
    """

    empty: bool = True
    lockout: bool = True
    blast_percent: float = 50.0
    tests: Demand = Demand.WARN


@dataclass(frozen=True, slots=True)
class Connections:
    """Who may send anything to whom, before and after.

    Attributes:
        gained, lost: ordered pairs of devices that get their first, or lose their last, connection.
        before, after: pairs with a connection.
        of: all ordered pairs.
        sending, still_sending: slots that may send to anybody, before and after.
    """

    gained: int
    lost: int
    before: int
    after: int
    of: int
    sending: int
    still_sending: int

    @property
    def percent(self) -> float:
        """How many of all pairs change."""
        return 100 * (self.gained + self.lost) / self.of if self.of else 0.0

    def __str__(self) -> str:
        if not self.gained + self.lost:
            return "no pair of devices gets its first or loses its last connection"
        return (
            f"{_pairs(self.gained)} of devices get their first connection, {self.lost} lose their"
            f" last, of {self.of} ({self.percent:.1f}%)"
        )


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the gates say.

    Attributes:
        connections: the figures, which are told of changes that pass as well.
        findings: those that refuse, and those that only warn.
    """

    connections: Connections
    findings: tuple[Finding, ...] = ()

    @property
    def refusing(self) -> tuple[Finding, ...]:
        """The findings for which the change does not pass."""
        return tuple(one for one in self.findings if one.refuses)


def connections(before: Snapshot, after: Snapshot) -> Connections:
    """Compare who may send anything to whom; both have the same nodes in the same slots."""
    gained = lost = held = left = 0
    sending = still_sending = 0
    for number in after.slots.of.values():
        slot = Slot(number)
        was, now = before.access.senders(slot), after.access.senders(slot)
        if was != now:
            gained += (now & ~was).bit_count()
            lost += (was & ~now).bit_count()
        held += was.bit_count()
        left += now.bit_count()
        sending |= was
        still_sending |= now
    count = len(after.nodes)
    return Connections(gained, lost, held, left, count * (count - 1), sending, still_sending)


def judge(before: Snapshot, after: Snapshot, limits: Limits) -> Judgement:
    """Ask all gates about a change; the first policy ever has nothing to break."""
    found = connections(before, after)
    return Judgement(found, tuple(_findings(before, after, limits, found)))


def _findings(
    before: Snapshot, after: Snapshot, limits: Limits, found: Connections
) -> Iterator[Finding]:
    if before.deployment is not None:
        if limits.empty and found.before and not found.after and _is_empty(after):
            message = f"nobody may send anything to anybody any more ({_pairs(found.before)} could)"
            yield Finding(Gate.EMPTY, message)
        if limits.lockout:
            yield from _lockout(before, after, found)
        yield from _blast(after, limits, found)
    if limits.tests is not Demand.OFF and not _tested(after):
        message = "the policy has no tests"
        yield Finding(Gate.TESTS, message, refuses=limits.tests is Demand.REQUIRE)


def _is_empty(after: Snapshot) -> bool:
    """Say whether it is the policy that lets nothing through.

    In a tailnet of a few devices rules may well be about devices that are still to come.
    """
    match after.policy:
        case CompiledPolicy(rules=(), own_rules=()):
            return True
        case _:
            return len(after.nodes) >= FEW_NODES


def _lockout(before: Snapshot, after: Snapshot, found: Connections) -> Iterator[Finding]:
    were, are = _administrators(before), _administrators(after)
    if were and not are:
        message = f"nobody is an administrator any more ({len(were)} were)"
        yield Finding(Gate.LOCKOUT, message, tuple(sorted(were)))
        return
    devices = dict.fromkeys(were.keys() & are.keys(), 0)
    for node in before.nodes.values():
        owner = before.owner(node)
        if owner is not None and owner.login.casefold() in devices:
            devices[owner.login.casefold()] |= 1 << before.slot(node.id)
    cut = sorted(
        login
        for login, slots in devices.items()
        if slots & found.sending and not slots & found.still_sending
    )
    if cut:
        who = "1 administrator loses" if len(cut) == 1 else f"{len(cut)} administrators lose"
        count = sum((devices[login] & found.sending).bit_count() for login in cut)
        message = f"{who} all access ({count} of their devices had some)"
        yield Finding(Gate.LOCKOUT, message, tuple(cut))


def _administrators(snapshot: Snapshot) -> dict[str, User]:
    return {
        one.login.casefold(): one
        for one in snapshot.users.values()
        if one.role in ADMINISTRATORS and not one.suspended
    }


def _blast(after: Snapshot, limits: Limits, found: Connections) -> Iterator[Finding]:
    limit = limits.blast_percent
    if len(after.nodes) < MANY_NODES or found.percent <= limit:
        return
    message = (
        f"{found.percent:.1f}% of the pairs of devices get their first or lose their last"
        f" connection ({found.gained + found.lost} of {found.of}); the limit is {limit:g}%"
    )
    yield Finding(Gate.BLAST, message)


def _tested(after: Snapshot) -> bool:
    match after.policy:
        case CompiledPolicy(document=document):
            return bool(document.tests or document.ssh_tests)
        case _:
            return True


def _pairs(number: int) -> str:
    return "1 pair" if number == 1 else f"{number} pairs"
