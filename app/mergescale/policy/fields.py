"""Reading the tree: objects by field name, lists of texts, each with its place.

SPEC(hosted service): field names are compared without case, keys of maps are not, and ``null`` is
the same as leaving a field out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mergescale.policy.diagnostics import Report, quoted
from mergescale.policy.hujson import Kind, Member, Value


def fields(
    value: Value,
    report: Report,
    *,
    what: str,
    known: Collection[str],
    unsupported: Mapping[str, str] | None = None,
) -> dict[str, Value]:
    """Return the fields of an object under their `known` spelling; report all others.

    Args:
        value: where an object is expected; anything else is reported and has no fields.
        report: where problems go.
        what: the thing that has the fields, for messages.
        known: fields that are read.
        unsupported: fields of the full language that this version refuses -> help.
    """
    found: dict[str, Value] = {}
    by_case = {name.casefold(): name for name in known}
    refused = {name.casefold(): help_ for name, help_ in (unsupported or {}).items()}
    for member in members(value, report, what):
        folded = member.key.casefold()
        name = by_case.get(folded)
        if name is None and folded in refused:
            message = f"{quoted(member.key)} is not supported by this version"
            help_ = refused[folded] or "remove it; ignoring it would change what the policy means"
            report.error("policy.unsupported", member.key_span, message, help_)
        elif name is None:
            report.unknown("policy.unknown-key", member.key_span, f"{what} key", member.key, known)
        elif name in found:
            message = f"key {quoted(member.key)} is written twice"
            report.error("hujson.duplicate-key", member.key_span, message)
        else:
            found[name] = member.value
    return {name: one for name, one in found.items() if one.kind is not Kind.NULL}


def renamed(found: dict[str, Value], legacy: Mapping[str, str], report: Report) -> dict[str, Value]:
    """Return the fields with old names (old -> new) replaced; report what is written twice."""
    for old, new in legacy.items():
        if old in found and new in found:
            message = f"{old} is the old name of {new}, and both are written"
            report.error("policy.rule", found[old].span, message, f"remove {old}")
    return {legacy.get(name, name): one for name, one in found.items()}


def members(value: Value | None, report: Report, what: str) -> tuple[Member, ...]:
    """Return the members of an object; report anything else."""
    if value is None or value.kind is Kind.NULL or not expect(value, Kind.OBJECT, report, what):
        return ()
    return value.members


def items(value: Value | None, report: Report, what: str) -> tuple[Value, ...]:
    """Return the items of an array; report anything else."""
    if value is None or value.kind is Kind.NULL or not expect(value, Kind.ARRAY, report, what):
        return ()
    return value.items


def texts(value: Value | None, report: Report, what: str) -> list[tuple[str, Value]]:
    """Return the strings of an array with their places; report anything else."""
    return [
        (str(one.scalar), one)
        for one in items(value, report, what)
        if expect(one, Kind.STRING, report, f"each of {what}")
    ]


def string(value: Value | None, report: Report, what: str) -> str | None:
    """Return a string; report anything else."""
    if value is None or value.kind is Kind.NULL or not expect(value, Kind.STRING, report, what):
        return None
    return str(value.scalar)


def expect(value: Value, kind: Kind, report: Report, what: str) -> bool:
    """Say whether the value is of the kind; report it if not."""
    if value.kind is kind:
        return True
    a, b = (("an" if one[0] in "ao" else "a") + f" {one}" for one in (kind, value.kind))
    report.error("policy.type", value.span, f"{what} must be {a}, not {b}")
    return False
