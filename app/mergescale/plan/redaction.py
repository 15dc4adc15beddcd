"""The plan for those who may not see all of it: without addresses, or without names.

Comments of a pull request are often read by more people than may ask the server. What is left
out is left out of the plan itself, so that no form of it tells more than another.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from ipaddress import ip_interface
from typing import Any, Final

import msgspec

from mergescale.plan.model import Blast, Finding, Grant, Identity, NodeEffect, Plan, Reach, Tests
from mergescale.plan.wording import UNASSIGNED
from mergescale.policy.diagnostics import Diagnostic

#: What stands where an address stood.
ADDRESS: Final = "[address]"
_ADDRESSES: Final = re.compile(
    r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]*)"
    r"(?:/\d{1,3})?"
)
#: Words that say nothing of anybody.
_SAYABLE: Final = frozenset({"*", UNASSIGNED})
_PLACE: Final = re.compile(r"[^\s:]+:\d+(?::\d+)?(?=[:\s]|$)")


class Redaction(StrEnum):
    """How much is told.

    Attributes:
        FULL: everything.
        NAMES: no addresses, neither of devices nor of subnets nor of servers.
        COUNTS: no name and no address: verdict, figures, gates, and how many of what.
    """

    FULL = "full"
    NAMES = "names"
    COUNTS = "counts"


def redacted(plan: Plan, level: Redaction) -> Plan:
    """Return the plan as far as it may be told; hash and figures stay."""
    match level:
        case Redaction.FULL:
            return plan
        case Redaction.NAMES:
            told: Plan = without_addresses(plan)
            return msgspec.structs.replace(told, redacted=str(level))
        case Redaction.COUNTS:
            return _counted(plan)


def without_addresses(value: Any) -> Any:
    """Return a value of the plan with `ADDRESS` in all its texts."""
    match value:
        case StrEnum():
            return value
        case str():
            return _ADDRESSES.sub(_masked, value)
        case tuple():
            return tuple(dict.fromkeys(map(without_addresses, value)))
        case msgspec.Struct():
            names = (name for name in value.__struct_fields__ if name != "hash")
            changed = {name: without_addresses(getattr(value, name)) for name in names}
            return msgspec.structs.replace(value, **changed)
        case _:
            return value


def _masked(found: re.Match[str]) -> str:
    text = found[0]
    for end in (len(text), len(text.rstrip(":."))):
        try:
            ip_interface(text[:end])
        except ValueError:
            continue
        return ADDRESS + text[end:]
    return text


def _counted(plan: Plan) -> Plan:
    tests, identity, blast = plan.tests, plan.identity, plan.blast
    return Plan(
        version=plan.version,
        hash=plan.hash,
        verdict=plan.verdict,
        gained=tuple(map(_reach, plan.gained)),
        lost=tuple(map(_reach, plan.lost)),
        edges_gained=_number(plan.edges_gained, "connection"),
        edges_lost=_number(plan.edges_lost, "connection"),
        nodes=tuple(_effects(plan.nodes)),
        identity=Identity(
            *(_number(getattr(identity, name), "change") for name in Identity.__struct_fields__)
        ),
        tests=Tests(
            tests.run,
            newly_failing=_places(tests.newly_failing),
            failing=_places(tests.failing),
            untested=_places(tests.untested),
            gone=_number(tests.gone, "expectation"),
        ),
        blast=Blast(
            blast.pairs,
            blast.of,
            blast.nodes,
            blast.connected,
            blast.disconnected,
            _number(blast.cut_off, "device"),
        ),
        unresolved=_number(plan.unresolved, "name"),
        gates=tuple(Finding(one.gate, one.message, (), one.refuses) for one in plan.gates),
        delivery=plan.delivery,
        redacted=str(Redaction.COUNTS),
        grants_gained=tuple(map(_grant, plan.grants_gained)),
        grants_lost=tuple(map(_grant, plan.grants_lost)),
        absent_gained=_number(plan.absent_gained, "name"),
        absent_lost=_number(plan.absent_lost, "name"),
    )


def _reach(row: Reach) -> Reach:
    return Reach(_kinds(row.src), _kinds(row.dst), row.ip, row.pairs, row.rules)


def _grant(row: Grant) -> Grant:
    what = "ssh" if row.what.startswith("ssh as ") else "capability" if row.src else "attribute"
    return Grant(_kinds(row.src), _kinds(row.dst), what)


def _kinds(names: Iterable[str]) -> tuple[str, ...]:
    """Return how many of which kind; the words of the language itself say nothing of anybody."""
    found = Counter(map(_kind, names))
    return tuple(
        kind if kind in _SAYABLE or kind.startswith("autogroup:") else _several(number, kind)
        for kind, number in found.items()
    )


def _kind(name: str) -> str:
    match name.partition(":"):
        case (word, "", "") if word in _SAYABLE:
            return name
        case ("autogroup", ":", _):
            return name.partition(" via ")[0]
        case ("group" | "tag" | "user" as kind, ":", _):
            return "domain" if kind == "user" else kind
        case _:
            at = name.partition(" ")[0]
            if "@" in at:
                return "user"
            # A device of which one address is meant is written with it: ``laptop (100.64.0.1)``.
            whole = ADDRESS in without_addresses(at)
            return "address" if whole else "device"


def _effects(nodes: Iterable[NodeEffect]) -> Iterable[NodeEffect]:
    """Yield one row for all devices that are told the same."""
    alike = Counter(
        NodeEffect(
            name="",
            filter=one.filter,
            peers_gained=_number(one.peers_gained, "device"),
            peers_lost=_number(one.peers_lost, "device"),
            routes=one.routes,
            ssh=one.ssh,
            capabilities=one.capabilities,
        )
        for one in nodes
    )
    for one, number in alike.most_common():
        yield msgspec.structs.replace(one, name=_several(number, "device"))


def _places(entries: Iterable[str]) -> tuple[str, ...]:
    """Return where each stands in the policy, without what it says."""
    found = (_PLACE.match(one) for one in entries)
    return tuple(one[0] if one is not None else "one" for one in found)


def _number(entries: tuple[str, ...], word: str) -> tuple[str, ...]:
    return (_several(len(entries), word),) if entries else ()


def _several(number: int, word: str) -> str:
    plural = f"{word}es" if word.endswith("s") else f"{word}s"
    return f"{number} {word if number == 1 else plural}"


def without_names(found: Iterable[Diagnostic], level: Redaction) -> tuple[Diagnostic, ...]:
    """Return diagnostics as far as they may be told; code and place stay."""
    match level:
        case Redaction.FULL:
            return tuple(found)
        case Redaction.NAMES:
            return tuple(
                replace(
                    one,
                    message=without_addresses(one.message),
                    help=without_addresses(one.help),
                )
                for one in found
            )
        case Redaction.COUNTS:
            return tuple(replace(one, message=one.code, help="") for one in found)
