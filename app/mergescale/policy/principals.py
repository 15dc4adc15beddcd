"""What a node or a person answers to: the names by which a rule may mean it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NewType

from mergescale.domain.user import User
from mergescale.policy.document import PolicyDocument
from mergescale.policy.selectors import Autogroup, Group, Selector, Tag
from mergescale.policy.selectors import User as Login

#: A login, ``group:x``, ``tag:x``, ``autogroup:member`` or ``autogroup:tagged``.
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


def of_login(login: str, groups: GroupsOf) -> frozenset[Principal]:
    """Return what a person answers to; ``name`` and ``name@`` are one login."""
    folded = login.casefold()
    names = {folded}
    if "@" not in folded:
        names.add(f"{folded}@")
    elif folded.endswith("@"):
        names.add(folded[:-1])
    found = {MEMBER, *(Principal(name) for name in names)}
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
    return of_login(owner.login, groups)


def named(selectors: Iterable[Selector]) -> frozenset[Principal]:
    """Return the principals among the selectors."""
    return frozenset(
        Principal(str(one)) for one in selectors if isinstance(one, Login | Group | Tag | Autogroup)
    )
