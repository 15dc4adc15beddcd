"""Who is what, and what holds for everybody, before and after a change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Final

from mergescale.domain.declaration import Declaration
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.tailnet import ExtraRecord, RelayNode, RelayRegion
from mergescale.domain.user import Role
from mergescale.plan.model import Identity
from mergescale.plan.side import Side
from mergescale.policy.attrconfig import AttributeConfig
from mergescale.policy.document import PolicyDocument
from mergescale.policy.postures import Posture

#: Members that a role has more than; roles of one rank can do different things.
_RANKS: Final = {Role.OWNER: 3, Role.ADMIN: 2, Role.MEMBER: 0}
_SPECIAL: Final = 1
_SUSPENDED: Final = -1
_NOBODY: Final = -2
#: Settings that clients hear of when they change.
_TOLD: Final = frozenset({"domain", "magic_dns_suffix"})


@dataclass(frozen=True, slots=True)
class Standing:
    """What a change does to it.

    Attributes:
        shown: in words.
        grows, shrinks: somebody may more, or less, by role, tag ownership or approval.
        moves: something else is different.
        told: every client hears of it.
    """

    shown: Identity
    grows: bool = False
    shrinks: bool = False
    moves: bool = False
    told: bool = False


def standing(base: Side, head: Side) -> Standing:
    """Compare what two sides make of people and of the tailnet."""
    was, now = base.document, head.document
    roles = [_people(one.snapshot) for one in (base, head)]
    ranks = [_ranks(one.snapshot) for one in (base, head)]
    owners = [_resolved(one.tag_owners, one) for one in (was, now)]
    approvals = [_approvals(one) for one in (was, now)]
    approvers = [
        _resolved(one, document) for one, document in zip(approvals, (was, now), strict=True)
    ]
    settings = [_settings(one.declaration, one.document) for one in (base, head)]
    shown = Identity(
        roles=_changes(*roles),
        groups=_changes(was.groups, now.groups),
        tag_owners=_changes(was.tag_owners, now.tag_owners),
        approvers=_changes(*approvals),
        settings=_changes(*settings, nothing="none"),
        postures=_changes(*(_postures(one) for one in (was, now)), nothing="none"),
    )
    return Standing(
        shown,
        grows=_more(*ranks) or _wider(*owners) or _wider(*approvers),
        shrinks=_more(*reversed(ranks))
        or _wider(*reversed(owners))
        or _wider(*reversed(approvers)),
        moves=bool(shown.roles or shown.settings) or _asked(was) != _asked(now),
        told=_told(base.declaration) != _told(head.declaration),
    )


# ---------------------------------------------------------------------------- people


def _people(snapshot: Snapshot) -> dict[str, str]:
    return {
        one.login: f"{one.role}{' (suspended)' if one.suspended else ''}"
        for one in snapshot.users.values()
    }


def _ranks(snapshot: Snapshot) -> dict[str, int]:
    return {
        one.login: _SUSPENDED if one.suspended else _RANKS.get(one.role, _SPECIAL)
        for one in snapshot.users.values()
    }


def _more(was: Mapping[str, int], now: Mapping[str, int]) -> bool:
    return any(rank > was.get(login, _NOBODY) for login, rank in now.items())


# ---------------------------------------------------------------------------- tags and routes


def _approvals(document: PolicyDocument) -> dict[str, tuple[Any, ...]]:
    routes = {str(one.prefix): one.approvers for one in document.route_approvals}
    return {**routes, "exitNode": document.exit_approvers}


def _resolved(
    held: Mapping[str, Iterable[Any]], document: PolicyDocument
) -> dict[str, frozenset[str]]:
    """Return the same with the members of groups instead of their names."""
    return {
        name: frozenset(
            login
            for one in selectors
            for login in document.groups.get(str(one), (str(one).casefold(),))
        )
        for name, selectors in held.items()
    }


def _wider(was: Mapping[str, frozenset[str]], now: Mapping[str, frozenset[str]]) -> bool:
    return any(selectors - was.get(name, frozenset()) for name, selectors in now.items())


# ---------------------------------------------------------------------------- devices


def _postures(document: PolicyDocument) -> dict[str, Any]:
    postures = {name: _conditions(one) for name, one in document.postures.items()}
    return {**postures, "asked of devices": tuple(_asked(document))}


def _asked(document: PolicyDocument) -> frozenset[str]:
    """Return the conditions that rules put on devices, whatever they are called.

    Devices meet them today or not; that changes by itself, so other conditions are an effect.
    """
    return frozenset(
        " or ".join(sorted(_conditions(document.postures[name]) for name in rule.postures))
        for rule in document.rules
        if rule.postures
    )


def _conditions(posture: Posture) -> str:
    return " and ".join(sorted(map(str, posture.conditions)))


# ---------------------------------------------------------------------------- the tailnet


def _settings(declaration: Declaration, document: PolicyDocument) -> dict[str, Any]:
    parts = (declaration.settings, declaration.dns, declaration.relays)
    return {
        **{
            f"{type(part).__name__.lower()}.{one.name}": getattr(part, one.name)
            for part in parts
            for one in fields(part)
        },
        **{f"attrConfig.{name}": one for name, one in document.attribute_configs.items()},
        **_pools(document),
    }


def _pools(document: PolicyDocument) -> dict[str, Any]:
    """Return whose new devices take their IPv4 address from where."""
    return {
        f"ipPool.{target}": tuple(map(str, one.pools))
        for one in document.node_attributes
        if one.pools
        for target in map(str, one.targets)
    }


def _told(declaration: Declaration) -> tuple[Any, ...]:
    settings = tuple(getattr(declaration.settings, name) for name in sorted(_TOLD))
    return declaration.dns, declaration.relays, settings


# ---------------------------------------------------------------------------- words


def _changes(
    was: Mapping[str, Any], now: Mapping[str, Any], *, nothing: str = "nobody"
) -> tuple[str, ...]:
    return tuple(
        f"{name}: {_shown(was.get(name), nothing)} -> {_shown(now.get(name), nothing)}"
        for name in sorted(was.keys() | now.keys())
        if was.get(name) != now.get(name)
    )


def _shown(value: Any, nothing: str = "none") -> str:
    match value:
        case None | "":
            return "none"
        case timedelta():
            return str(value).removesuffix(", 0:00:00")
        case tuple() | frozenset():
            return ", ".join(sorted(map(_shown, value))) or nothing
        case Mapping():
            told = (f"{name} {_shown(one)}" for name, one in sorted(value.items()))
            return "; ".join(told) or nothing
        case ExtraRecord() | RelayRegion() | RelayNode() | AttributeConfig():
            return f"({_said(value)})"
        case _:
            return str(value)


def _said(value: Any) -> str:
    """Return what somebody wrote of it: the members that are not as they are by themselves."""
    written = (
        (one.name, getattr(value, one.name))
        for one in fields(value)
        if one.compare and getattr(value, one.name) != one.default
    )
    return " ".join(f"{name}={_shown(held)}" for name, held in written)
