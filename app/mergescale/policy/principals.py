"""What a node or a person answers to: the names by which a rule may mean it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NewType

from mergescale.domain.user import Role, User
from mergescale.policy.document import PolicyDocument
from mergescale.policy.selectors import Autogroup, DomainUsers, Group, Selector, Tag
from mergescale.policy.selectors import User as Login

#: A login, ``user:*@domain``, ``group:x``, ``tag:x``, or an autogroup of people or tagged devices.
Principal = NewType("Principal", str)

MEMBER: Final = Principal("autogroup:member")
TAGGED: Final = Principal("autogroup:tagged")

#: group members: login -> the groups it is in.
GroupsOf = Mapping[str, frozenset[Principal]]


def groups_of(document: PolicyDocument) -> GroupsOf:
    """Turn ``group -> logins`` around."""
    found: dict[str, set[Principal]] = {}
    for group, logins in document.groups.items():
        for login in logins:
            found.setdefault(login, set()).add(Principal(group))
    return {login: frozenset(groups) for login, groups in found.items()}


def of_login(login: str, role: Role, groups: GroupsOf) -> frozenset[Principal]:
    """Return what a person answers to; ``name`` and ``name@`` are one login."""
    folded = login.casefold()
    names = {folded}
    _, at, domain = folded.partition("@")
    if not at:
        names.add(f"{folded}@")
    elif not domain:
        names.add(folded[:-1])
    found = {MEMBER, Principal(f"autogroup:{role}"), *(Principal(name) for name in names)}
    if domain:
        found.add(Principal(f"user:*@{domain}"))
    for name in names:
        found |= groups.get(name, frozenset())
    return frozenset(found)


def of_tags(tags: Iterable[str]) -> frozenset[Principal]:
    """Return what a tagged node answers to; it has no owner."""
    return frozenset({TAGGED, *(Principal(tag) for tag in tags)})


def of_node(tags: tuple[str, ...], owner: User | None, groups: GroupsOf) -> frozenset[Principal]:
    """Return what a node answers to."""
    if tags or owner is None:
        return of_tags(tags)
    return of_login(owner.login, owner.role, groups)


def named(selectors: Iterable[Selector]) -> frozenset[Principal]:
    """Return the principals among the selectors."""
    return frozenset(one for each in selectors if (one := principal(each)) is not None)


def principal(selector: Selector) -> Principal | None:
    """Return the selector as a name that nodes answer to; None for addresses and wide ones."""
    match selector:
        case Autogroup("internet" | "self" | "danger-all"):
            return None
        case DomainUsers(domain):
            return Principal(f"user:*@{domain.casefold()}")
        case Login() | Group() | Tag() | Autogroup():
            return Principal(str(selector))
        case _:
            return None
