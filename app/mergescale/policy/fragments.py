"""A policy in several files: ``policy.hujson`` first, then ``policy.d/*.hujson`` in path order.

Lists (``acls``, ``ssh``, ``tests`` ...) are put one after another, maps (``groups``, ``hosts`` ...) are
joined; whatever has a name is declared once. Every key and value keeps its place in its own file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mergescale.policy.diagnostics import Report, Span, quoted
from mergescale.policy.hujson import Kind, Member, Value

#: Sections whose members are lists or maps themselves and are joined one level further down.
_NESTED = frozenset({"autoapprovers"})
_SCHEMA = "$schema"


def join(fragments: Sequence[Value], report: Report) -> Value:
    """Return the fragments as one policy.

    Args:
        fragments: one for each file, in path order; at least one.
        report: gets an error, with both places, for a name that two files declare.
    """
    first, *others = fragments
    if not others:
        return first
    joined = replace(first, members=tuple(one for one in first.members if one.key != _SCHEMA))
    for other in others:
        if other.kind is Kind.OBJECT and joined.kind is Kind.OBJECT:
            joined = _with(joined, other, report)
        elif other.kind is not Kind.OBJECT:
            message = f"policy must be an object, not a {other.kind}"
            report.error("policy.type", other.span, message)
    return joined


def _with(joined: Value, other: Value, report: Report) -> Value:
    sections = {one.key.casefold(): one for one in joined.members}
    for member in other.members:
        name = member.key.casefold()
        held = sections.get(name)
        if member.key == _SCHEMA or member.value.kind is Kind.NULL:
            continue
        if held is None or held.value.kind is Kind.NULL:
            sections[name] = member
        else:
            value = _section(held, member, report, nested=name in _NESTED)
            sections[name] = replace(held, value=value)
    return replace(joined, members=tuple(sections.values()))


def _section(held: Member, more: Member, report: Report, *, nested: bool) -> Value:
    """Return what two files say in a section of the same name."""
    was, now = held.value, more.value
    match was.kind, now.kind:
        case Kind.ARRAY, Kind.ARRAY:
            return replace(was, items=was.items + now.items)
        case Kind.OBJECT, Kind.OBJECT if nested:
            return _with(was, now, report)
        case Kind.OBJECT, Kind.OBJECT:
            return replace(was, members=_named(was, now, more.key, report))
        case Kind.OBJECT | Kind.ARRAY, _:
            message = f"{more.key} must be an {was.kind}, as it is in {_place(held.key_span)}"
            report.error("policy.type", now.span, message)
        case _:
            _twice(f"{more.key} is set twice", more.key_span, held.key_span, report)
    return was


def _named(was: Value, now: Value, section: str, report: Report) -> tuple[Member, ...]:
    known = {one.key: one for one in was.members}
    for member in now.members:
        if member.key in known:
            message = f"{quoted(member.key)} is declared twice in {section}"
            _twice(message, member.key_span, known[member.key].key_span, report)
    return (*was.members, *(one for one in now.members if one.key not in known))


def _twice(message: str, here: Span, there: Span, report: Report) -> None:
    report.error("policy.declared-twice", here, message, f"the other one is at {_place(there)}")


def _place(span: Span) -> str:
    return f"{span.file}:{span.start_line}:{span.start_column}"
