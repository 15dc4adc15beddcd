"""A tailnet that is only supposed: one device of each kind that a question names, and a router.

For questions about a policy where nobody said which devices there are. As in a policy's own tests, a
user stands for any untagged device of that user, a tag for any device with just that tag.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from mergescale.domain.prefixes import Address
from mergescale.domain.user import Role
from mergescale.netmap.inventory import Inventory, InventoryNode, InventoryUser
from mergescale.policy.document import PolicyDocument
from mergescale.policy.selectors import (
    MEMBER,
    ROLES,
    Autogroup,
    DomainUsers,
    Group,
    Selector,
    Tag,
    User,
)

#: What routes the addresses that no supposed device has.
ROUTER: Final = "any router"
#: Out of the way of addresses that a policy may name.
_IPV4: Final = IPv4Address("100.127.254.0")
_IPV6: Final = IPv6Address("fd7a:115c:a1e0:ffff::")
#: Somebody of a role, not of a name.
_SOMEBODY: Final = "somebody"


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of device: a user's, or one with a tag."""

    name: str
    login: str = ""
    role: Role = Role.MEMBER
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Supposed:
    """A tailnet for one question.

    Attributes:
        sources, targets: names of the nodes at either end.
    """

    inventory: Inventory
    sources: tuple[str, ...]
    targets: tuple[str, ...]


def suppose(
    document: PolicyDocument, source: Selector, target: Selector, addresses: Iterable[Address]
) -> Supposed:
    """Return devices of the kinds at both ends, and a router.

    Args:
        document: whose groups and tags are meant.
        source: users, groups, tags, autogroups of people; no devices for anything else.
        target: the same.
        addresses: what the router routes; it has every tag, as ``via`` may ask for any.
    """
    here, there = _kinds(source, document), _kinds(target, document)
    # Somebody's devices reach each other, never a device itself.
    names = [*((one.name, one) for one in here)]
    names += [(f"{one.name} (another)" if one in here else one.name, one) for one in there]
    nodes = [_node(number, name, kind) for number, (name, kind) in enumerate(names, 1)]
    routed = [f"{one}/{one.max_prefixlen}" for one in dict.fromkeys(addresses)]
    if routed:
        nodes.append(_router(len(nodes) + 1, sorted(document.tag_owners), routed))
    roles = {one.login: one.role for _, one in names if one.login}
    users = [InventoryUser(login, role=role) for login, role in roles.items()]
    texts = [name for name, _ in names]
    return Supposed(
        Inventory(users=users, nodes=nodes), tuple(texts[: len(here)]), tuple(texts[len(here) :])
    )


def _kinds(end: Selector, document: PolicyDocument) -> list[_Kind]:
    match end:
        case User(login):
            return [_person(login, document)]
        case Group(name):
            return [_person(login, document) for login in document.groups.get(name, ())]
        case DomainUsers(domain):
            return [_Kind(str(end), f"{_SOMEBODY}@{domain.casefold()}")]
        case Autogroup(name) if name == MEMBER or name in ROLES:
            return [_Kind(str(end), _SOMEBODY, Role(name))]
        case Tag(name):
            return [_Kind(name, tag=name)]
        case _:
            return []


def _person(login: str, document: PolicyDocument) -> _Kind:
    return _Kind(login, login, document.roles.get(login, Role.MEMBER))


def _node(number: int, name: str, kind: _Kind) -> InventoryNode:
    tags = (kind.tag,) if kind.tag else ()
    return InventoryNode(name, _IPV4 + number, _IPV6 + number, user=kind.login, tags=tags)


def _router(number: int, tags: list[str], routes: list[str]) -> InventoryNode:
    return InventoryNode(
        ROUTER,
        _IPV4 + number,
        _IPV6 + number,
        tags=tags or ["tag:router"],
        advertised_routes=[*routes, "0.0.0.0/0", "::/0"],
        approved_routes=[*routes, "0.0.0.0/0", "::/0"],
    )
