"""``derpMap`` of a policy: the same as ``derp.hujson``, with field names in any case.

SPEC(hosted service): field names of a policy are compared without case; its client libraries write
``regions`` and ``hostName`` where tailcfg has ``Regions`` and ``HostName``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mergescale.domain.tailnet import Relays
from mergescale.policy.diagnostics import Report, Severity, quoted
from mergescale.policy.files import derp
from mergescale.policy.files.validate import validate
from mergescale.policy.hujson import Kind, Member, Value


def read_derp_map(value: Value | None, report: Report) -> Relays | None:
    """Read ``derpMap``; None when it is left out or wrong, which goes to `report`."""
    if value is None:
        return None
    spelt = _spelt(value, derp.SCHEMA, report)
    found = validate(spelt, derp.SCHEMA)
    for one in found:
        report.error(one.code, one.span, one.message, one.help)
    wrong = any(one.severity is Severity.ERROR for one in found)
    return None if wrong or report.failed else derp.read(spelt, report)


def _spelt(value: Value, schema: Mapping[str, Any], report: Report) -> Value:
    """Return the value with every field name as the schema spells it; unknown ones as they are."""
    match value.kind:
        case Kind.OBJECT:
            return replace(value, members=_members(value, schema, report))
        case Kind.ARRAY if "items" in schema:
            return replace(
                value, items=tuple(_spelt(one, schema["items"], report) for one in value.items)
            )
        case _:
            return value


def _members(value: Value, schema: Mapping[str, Any], report: Report) -> tuple[Member, ...]:
    known = schema.get("properties", {})
    names = {name.casefold(): name for name in reversed(known)}
    others: Mapping[str, Any] = next(iter(schema.get("patternProperties", {}).values()), {})
    found: dict[str, Member] = {}
    for member in value.members:
        name = names.get(member.key.casefold(), member.key)
        if name in found:
            message = f"key {quoted(member.key)} is written twice"
            report.error("hujson.duplicate-key", member.key_span, message)
            continue
        inner = _spelt(member.value, known.get(name, others), report)
        found[name] = replace(member, key=name, value=inner)
    return tuple(found.values())
