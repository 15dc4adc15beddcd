"""A plan for a terminal: plain text, readable without colour."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mergescale.plan.model import NodeEffect, Plan, Reach, Verdict

#: LIMIT: rows of one kind that are shown; the JSON has them all.
MAX_ROWS = 50


def as_text(plan: Plan) -> str:
    """Return the plan as lines."""
    return "\n".join(_lines(plan)) + "\n"


def _lines(plan: Plan) -> Iterator[str]:
    yield summary(plan)
    yield from _reach("gains", "+", plan.gained)
    yield from _reach("loses", "-", plan.lost)
    yield from _list("new connections between", [*plan.edges_gained])
    yield from _list("no connection any more between", [*plan.edges_lost])
    yield from _list("devices that are told", [effect_words(one) for one in plan.nodes])
    for what, entries in identity_words(plan):
        yield from _list(what, entries)
    if plan.tests.run or plan.tests.failing:
        yield f"\ntests: {plan.tests.run} run, {len(plan.tests.failing)} failed"
        yield from (f"  ! {one}" for one in plan.tests.failing)
    yield from _list("changed rules without a test", [*plan.tests.untested])
    yield from _list("names that nobody has", [*plan.unresolved])
    yield f"\nplan {plan.hash[:12]}"


def summary(plan: Plan) -> str:
    """Return one line: the verdict and how much it concerns."""
    if plan.verdict is Verdict.NO_EFFECT:
        return "verdict: no effect"
    blast = plan.blast
    return (
        f"verdict: {plan.verdict}; {blast.pairs} of {blast.of} pairs of devices change"
        f" ({blast.share:.1%}), {blast.nodes} devices are told"
    )


def reach_words(row: Reach) -> str:
    """Return ``src -> dst : ports``."""
    return f"{', '.join(row.src)} -> {', '.join(row.dst)} : {', '.join(row.ip)}"


def effect_words(one: NodeEffect) -> str:
    """Return what differs for a node."""
    parts = []
    if one.filter:
        parts.append("filter")
    if one.peers_gained:
        parts.append(f"sees {_few(one.peers_gained)}")
    if one.peers_lost:
        parts.append(f"no longer sees {_few(one.peers_lost)}")
    parts += [
        name
        for name, differs in (
            ("routes", one.routes),
            ("ssh", one.ssh),
            ("capabilities", one.capabilities),
        )
        if differs
    ]
    return f"{one.name}: {'; '.join(parts)}"


def identity_words(plan: Plan) -> Iterator[tuple[str, list[str]]]:
    """Yield each kind of change to who is what, with its entries."""
    identity = plan.identity
    for what, entries in (
        ("roles", identity.roles),
        ("groups", identity.groups),
        ("tag owners", identity.tag_owners),
        ("approvers", identity.approvers),
        ("settings", identity.settings),
    ):
        if entries:
            yield what, list(entries)


def _few(names: Iterable[str]) -> str:
    every = list(names)
    shown = ", ".join(every[:5])
    return shown if len(every) <= len(every[:5]) else f"{shown} and {len(every) - 5} more"


def _reach(what: str, sign: str, rows: tuple[Reach, ...]) -> Iterator[str]:
    if rows:
        yield f"\n{what}:"
        yield from (f"  {sign} {reach_words(row)}" for row in rows[:MAX_ROWS])
        yield from _rest(len(rows))


def _list(what: str, entries: list[str]) -> Iterator[str]:
    if entries:
        yield f"\n{what}:"
        yield from (f"  {one}" for one in entries[:MAX_ROWS])
        yield from _rest(len(entries))


def _rest(number: int) -> Iterator[str]:
    if number > MAX_ROWS:
        yield f"  ... and {number - MAX_ROWS} more; --format json has them all"
