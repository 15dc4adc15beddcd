"""People and tags without a device: whether rules would give them more, or less, once they have one.

Of devices that there are it is compared which packets pass. Of those to come it is compared what rules
say of their owner or tag, with all names resolved.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from mergescale.domain.slots import each_bit
from mergescale.domain.user import Role
from mergescale.plan.flows import Place, cut, joined, places_of
from mergescale.plan.side import Side
from mergescale.policy.document import PolicyDocument, Rule
from mergescale.policy.ports import ALL_PORTS, DEFAULT_PROTOCOLS, WITH_PORTS
from mergescale.policy.principals import Principal, groups_of, named, of_login
from mergescale.policy.selectors import Everyone, Group, Host, IpSet, Net, Selector, Tag, User
from mergescale.policy.ssh.document import SshEntry

#: The other end of what an entry gives: people, a stretch of addresses, or any other selector.
_End = frozenset[str] | Place | str
_Entry = Rule | SshEntry
_ALL: Final = Place(ALL_PORTS.first, ALL_PORTS.last)


class _Gift(NamedTuple):
    """What an entry gives between the one who is meant and another end.

    Attributes:
        side: ``to`` or ``from`` the other end.
        what: a protocol, or all that is said of a login or a capability.
        ports: of the protocol; all of them for the rest.
        via: tags of the routers, empty for any.
        postures: conditions of which the source has to meet some, empty for none.
    """

    side: str
    end: _End
    what: Any
    ports: Place = _ALL
    via: tuple[str, ...] = ()
    postures: frozenset[str] = frozenset()

    def as_free_as(self, other: _Gift) -> bool:
        """Say whether it asks for no other router and no more of the device."""
        return self.via in {(), other.via} and (
            not self.postures or self.postures >= other.postures > frozenset()
        )


class _Gifts:
    """All that entries of either policy give, by number; the same of both has one number."""

    def __init__(self) -> None:
        self._numbers: dict[frozenset[_Gift], int] = {}
        self._lists: list[frozenset[_Gift]] = []
        self._alike: dict[tuple[str, Any], list[tuple[int, _Gift]]] = {}
        self._near: dict[_Gift, list[tuple[int, _Gift]]] = {}

    def number(self, gifts: frozenset[_Gift]) -> int:
        """Return the number of what one entry gives to one who is meant."""
        found = self._numbers.setdefault(gifts, len(self._lists))
        if found == len(self._lists):
            self._lists.append(gifts)
            for one in gifts:
                self._alike.setdefault((one.side, one.what), []).append((found, one))
        return found

    def more(self, before: int, after: int) -> bool:
        """Say whether there is anything in the later set of numbers that the earlier has not."""
        return any(
            not self._covered(one, before)
            for number in each_bit(after & ~before)
            for one in self._lists[number]
        )

    def _covered(self, one: _Gift, held: int) -> bool:
        near = self._near.get(one)
        if near is None:
            alike = self._alike.get((one.side, one.what), [])
            near = self._near[one] = [each for each in alike if each[1].as_free_as(one)]
        here = [each for number, each in near if held >> number & 1]
        by_ports = [each.ports for each in here if _covers([each.end], one.end)]
        by_ends = [each.end for each in here if _within([each.ports], one.ports)]
        return _within(by_ports, one.ports) or _covers(by_ends, one.end)


def _covers(ends: list[_End], one: _End) -> bool:
    if "*" in ends or one in ends:
        return True
    match one:
        case Place():
            return _within([each for each in ends if isinstance(each, Place)], one)
        case frozenset():
            people = [each for each in ends if isinstance(each, frozenset)]
            return one <= frozenset[str]().union(*people)
        case _:
            return False


def _within(places: list[Place], one: Place) -> bool:
    return any(each.first <= one.first and one.last <= each.last for each in _joined(places))


def _joined(places: list[Place]) -> list[Place]:
    return places if len(places) < 2 else joined(cut(places))


class _Entries:
    """Which of the gifts of one policy somebody gets."""

    def __init__(self, side: Side, gifts: _Gifts) -> None:
        self._document = side.document
        self._snapshot = side.snapshot
        self._groups = groups_of(side.document)
        self._by_principal: dict[Principal, int] = {}
        self._everybody = 0
        entries: list[_Entry] = [*side.document.rules, *side.document.ssh]
        for entry in entries:
            for selectors, given in self._given(entry):
                bit = 1 << gifts.number(given)
                if any(isinstance(one, Everyone) for one in selectors):
                    self._everybody |= bit
                for one in named(selectors):
                    self._by_principal[one] = self._by_principal.get(one, 0) | bit

    def of(self, who: str) -> int:
        """Return the numbers of what a login or a tag is given."""
        user = self._snapshot.user_by_login(who)
        if user is not None and user.suspended:
            return 0
        names = frozenset({Principal(who)})
        if not who.startswith("tag:"):
            role = Role.MEMBER if user is None else user.role
            names = of_login(who, role, self._groups)
        found = self._everybody
        for name in names:
            found |= self._by_principal.get(name, 0)
        return found

    def _given(self, entry: _Entry) -> Iterator[tuple[Iterable[Selector], frozenset[_Gift]]]:
        """Yield who is meant on either side of an entry, with what that gives them."""
        towards: dict[_Gift, list[Selector]] = {}
        leading: dict[str, tuple[Selector, list[_Gift]]] = {}
        for selector, gift in self._terms(entry):
            towards.setdefault(gift, []).append(selector)
            leading.setdefault(str(selector), (selector, []))[1].append(gift)
        yield (
            entry.sources,
            _settled(
                gift._replace(end=end)
                for gift, selectors in towards.items()
                for end in self._ends(selectors)
            ),
        )
        sources = self._ends(entry.sources)
        for target, gifts in leading.values():
            yield (
                (target,),
                _settled(one._replace(side="from", end=end) for one in gifts for end in sources),
            )

    def _terms(self, entry: _Entry) -> Iterator[tuple[Selector, _Gift]]:
        """Yield each target of an entry with what leads there, the end left open."""
        match entry:
            case Rule():
                postures = frozenset(
                    " and ".join(sorted(map(str, self._document.postures[name].conditions)))
                    for name in entry.postures
                )
                rest = tuple(sorted(map(str, entry.via))), postures
                for target in entry.targets:
                    for protocol in target.protocols or DEFAULT_PROTOCOLS:
                        ports = Place(target.ports.first, target.ports.last)
                        ports = ports if protocol in WITH_PORTS else _ALL
                        yield target.selector, _Gift("to", "", protocol, ports, *rest)
                for holder in entry.holders:
                    for capability in entry.capabilities:
                        yield holder, _Gift("to", "", capability, _ALL, *rest)
            case SshEntry():
                how = entry.logins, entry.check_period, entry.accept_env, entry.recorded
                for selector in entry.targets:
                    yield selector, _Gift("to", "", how)

    def _ends(self, selectors: Iterable[Selector]) -> list[_End]:
        """Return what selectors stand for, people together and stretches joined."""
        people, places, others = set[str](), list[Place](), set[_End]()
        for one in selectors:
            match one:
                case User(login=login):
                    people.add(login)
                case Group(name=name):
                    people.update(self._document.groups.get(name, ()))
                case Host(name=name):
                    places += places_of(self._document.hosts[name].text)
                case IpSet(name=name):
                    for stretch in self._document.ip_sets[name]:
                        places += places_of(stretch.text)
                case Net(range=stretch):
                    places += places_of(stretch.text)
                case _:
                    others.add(str(one))
        return [*others, *_joined(places), *([frozenset(people)] if people else ())]


def _settled(gifts: Iterable[_Gift]) -> frozenset[_Gift]:
    """Return them with ports joined, however they were written."""
    ports: dict[_Gift, list[Place]] = {}
    for one in gifts:
        ports.setdefault(one._replace(ports=_ALL), []).append(one.ports)
    return frozenset(
        one._replace(ports=each) for one, found in ports.items() for each in _joined(found)
    )


def absent(base: Side, head: Side) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the logins and tags without a device that are given more, and those given less."""
    gifts = _Gifts()
    was, now = _Entries(base, gifts), _Entries(head, gifts)
    changed: dict[tuple[int, int], list[str]] = {}
    for name in sorted(_without_device(base, head)):
        before, after = was.of(name), now.of(name)
        if before != after:
            changed.setdefault((before, after), []).append(name)
    gained, lost = list[str](), list[str]()
    for (before, after), names in changed.items():
        gained += names if gifts.more(before, after) else ()
        lost += names if gifts.more(after, before) else ()
    return tuple(sorted(gained)), tuple(sorted(lost))


def _without_device(base: Side, head: Side) -> set[str]:
    snapshot = head.snapshot
    found: set[str] = set()
    for side in (base, head):
        found |= {one.login.casefold() for one in side.snapshot.users.values()}
        found |= {login for members in side.document.groups.values() for login in members}
        found |= {str(one) for one in _selectors(side.document) if isinstance(one, User | Tag)}
    for node in snapshot.nodes.values():
        owner = snapshot.owner(node)
        found -= {*node.tags} if owner is None else {owner.login.casefold()}
    return found


def _selectors(document: PolicyDocument) -> Iterator[Selector]:
    for rule in document.rules:
        yield from (*rule.sources, *rule.holders)
        yield from (target.selector for target in rule.targets)
    for entry in document.ssh:
        yield from (*entry.sources, *entry.targets)
