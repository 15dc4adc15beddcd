"""What a change gives and takes beside packets: logins over SSH, capabilities, attributes.

Of SSH it is compared what the first matching entry decides for each source and login, so that the
order of entries that do not meet is no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from math import inf
from typing import Final, NamedTuple

from mergescale.domain.access import NodeCapabilities, SshRule
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import Slot
from mergescale.plan.difference import grants
from mergescale.plan.flows import Census

#: A requested user that no entry names.
_ANY_USER: Final = "*"
#: A local user: the one that was requested, but never root.
_SAME: Final = "="
_ROOT: Final = "root"


class Right(NamedTuple):
    """What somebody may do at a node, or what the node itself may.

    Attributes:
        slot: the node.
        what: e.g. ``ssh as root (accept)``, ``example.com/cap/x {"a":1}``, ``funnel``.
        sources: who, as bits of the `Census`; 0 for what the node itself may.
    """

    slot: Slot
    what: str
    sources: int


@dataclass(slots=True)
class Rights:
    """All that differs.

    Attributes:
        gained, lost: by node.
        ssh, attributes: slots of nodes where that differs.
    """

    gained: list[Right] = field(default_factory=list)
    lost: list[Right] = field(default_factory=list)
    ssh: int = 0
    attributes: int = 0


class _Login(NamedTuple):
    """How a login is decided: the higher, the freer.

    Attributes:
        level: -1 for refused, the seconds for which a check is good, infinity without one.
    """

    level: float = -1.0
    words: str = "refused"


_REFUSED: Final = _Login()


def rights(before: Snapshot, after: Snapshot, who: Census) -> Rights:
    """Compare two snapshots of the same nodes; `who` knows the sources of rules that differ."""
    found = Rights()
    for slot in after.slots.of.values():
        _compare_applications(found, before, after, slot, who)
        _compare_ssh(found, before, after, slot, who)
        _compare_attributes(found, before, after, slot)
    return found


# ---------------------------------------------------------------------------- applications


def _compare_applications(
    found: Rights, before: Snapshot, after: Snapshot, slot: Slot, who: Census
) -> None:
    if before.access.chunks(slot) is after.access.chunks(slot):
        return
    if grants(before, after, slot) == grants(after, before, slot):
        return
    was, now = (_applications(one, slot, who) for one in (before, after))
    for what in was.keys() | now.keys():
        there, here = was.get(what, 0), now.get(what, 0)
        if here & ~there:
            found.gained.append(Right(slot, what, here & ~there))
        if there & ~here:
            found.lost.append(Right(slot, what, there & ~here))


def _applications(snapshot: Snapshot, slot: Slot, who: Census) -> dict[str, int]:
    """Return who has which value of which capability at a node."""
    found: dict[str, int] = {}
    for rule in snapshot.access.chunks(slot).values():
        if rule.grant is None:
            continue
        for name, values in rule.grant.capabilities:
            for what in _spelt(name, values):
                found[what] = found.get(what, 0) | who.bits(rule.sources)
    return found


def _spelt(name: str, values: tuple[bytes, ...]) -> Iterator[str]:
    yield from (f"{name} {value.decode()}" for value in values)
    if not values:
        yield name


# ---------------------------------------------------------------------------- attributes


def _compare_attributes(found: Rights, before: Snapshot, after: Snapshot, slot: Slot) -> None:
    was, now = before.access.attributes(slot), after.access.attributes(slot)
    if was == now:
        return
    found.attributes |= 1 << slot
    there, here = _attributes(was), _attributes(now)
    found.gained += (Right(slot, what, 0) for what in sorted(here - there))
    found.lost += (Right(slot, what, 0) for what in sorted(there - here))


def _attributes(held: NodeCapabilities) -> set[str]:
    return {what for name, values in held.items() for what in _spelt(name, values)}


# ---------------------------------------------------------------------------- ssh


def _compare_ssh(found: Rights, before: Snapshot, after: Snapshot, slot: Slot, who: Census) -> None:
    was, now = before.access.ssh_rules(slot), after.access.ssh_rules(slot)
    if was == now:
        return
    gained, lost = dict[tuple[int, str], list[str]](), dict[tuple[int, str], list[str]]()
    for user in sorted({one for rule in (*was, *now) for one, _ in rule.logins}):
        there, here = (list(_decided(rules, user, who, after)) for rules in (was, now))
        for bits, old, new in _meeting(there, here):
            found.ssh |= 1 << slot
            if new.level >= old.level and new is not _REFUSED:
                gained.setdefault((bits, _turned(old, new)), []).append(user)
            if new.level <= old.level and old is not _REFUSED:
                lost.setdefault((bits, _turned(old, new)), []).append(user)
    found.gained += _logins(slot, gained)
    found.lost += _logins(slot, lost)


def _decided(
    rules: Iterable[SshRule], user: str, who: Census, snapshot: Snapshot
) -> Iterator[tuple[int, _Login]]:
    """Yield who gets in as a requested user, and how; each source once, the first entry decides."""
    decided = 0
    for rule in rules:
        logins = dict(rule.logins)
        local = logins.get(user, logins.get(_ANY_USER, ""))
        if not local or (local == _SAME and user == _ROOT):
            continue
        bits = who.listed(rule.principals) & ~decided
        if bits:
            decided |= bits
            yield bits, _login(rule, user, local, snapshot)


def _login(rule: SshRule, user: str, local: str, snapshot: Snapshot) -> _Login:
    if rule.recorded and not rule.recorders:
        return _REFUSED
    level, words = inf, "accept"
    if rule.check_period is not None:
        level = rule.check_period.total_seconds()
        words = f"check every {_period(level)}" if level else "check every time"
    if local not in {_SAME, user}:
        words = f"{words} as {local}"
    if rule.accept_env:
        words = f"{words}, environment {' '.join(rule.accept_env)}"
    if rule.recorders:
        words = f"{words}, recorded at {', '.join(_names(rule.recorders, snapshot))}"
    return _Login(level, words)


def _names(addresses: Iterable[str], snapshot: Snapshot) -> list[str]:
    nodes = {snapshot.addresses.get(ip_address(text)) for text in addresses}
    return sorted(snapshot.nodes[node].name for node in nodes if node is not None)


def _meeting(
    there: list[tuple[int, _Login]], here: list[tuple[int, _Login]]
) -> Iterator[tuple[int, _Login, _Login]]:
    """Yield the sources for whom it is decided otherwise, with what was and what is."""
    for bits, old in (*there, (~_all(there), _REFUSED)):
        for others, new in (*here, (~_all(here), _REFUSED)):
            if bits & others and old != new:
                yield bits & others, old, new


def _all(decided: Iterable[tuple[int, _Login]]) -> int:
    bits = 0
    for some, _ in decided:
        bits |= some
    return bits


def _turned(old: _Login, new: _Login) -> str:
    if old is _REFUSED or new is _REFUSED:
        return new.words if old is _REFUSED else old.words
    return f"{old.words} -> {new.words}"


def _logins(slot: Slot, found: Mapping[tuple[int, str], list[str]]) -> Iterator[Right]:
    for (bits, how), users in found.items():
        as_whom = ", ".join("autogroup:nonroot" if one == _ANY_USER else one for one in users)
        yield Right(slot, f"ssh as {as_whom} ({how})", bits)


def _period(seconds: float) -> str:
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds % length_s == 0:
            return f"{seconds / length_s:g}{unit}"
    return f"{seconds:g}s"
