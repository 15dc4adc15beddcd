"""A plan for a terminal: plain text, readable without colour."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mergescale.plan.model import Finding, Grant, NodeEffect, Plan, Reach, Verdict

#: LIMIT: rows of one kind that are shown; the JSON has them all.
MAX_ROWS = 50
_KILO = 1000
#: LIMIT: names on one side of a row.
MAX_NAMES = 12
#: LIMIT: characters of a capability's value that are shown.
MAX_WHAT = 200


def as_text(plan: Plan) -> str:
    """Return the plan as lines."""
    return "".join(f"{printable(line)}\n" for line in _lines(plan))


def _lines(plan: Plan) -> Iterator[str]:
    yield summary(plan)
    yield from _list("gates", [gate_words(one) for one in plan.gates])
    yield from _reach("gains", "+", plan.gained)
    yield from _reach("loses", "-", plan.lost)
    yield from _list("may from now on", [f"+ {grant_words(one)}" for one in plan.grants_gained])
    yield from _list("may no longer", [f"- {grant_words(one)}" for one in plan.grants_lost])
    yield from _list("new connections between", [*plan.edges_gained])
    yield from _list("no connection any more between", [*plan.edges_lost])
    for what, names in absent_words(plan):
        yield from _list(what, names)
    yield from _list("devices that lose every connection of their own", [*plan.blast.cut_off])
    yield from _list("devices that are told", [effect_words(one) for one in plan.nodes])
    for what, entries in identity_words(plan):
        yield from _list(what, entries)
    if plan.tests.run or plan.tests.failing:
        yield f"\ntests: {plan.tests.run} run, {len(plan.tests.failing)} failed"
        yield from (f"  ! {one}" for one in failing_words(plan))
    yield from _list("expectations that are gone", [*plan.tests.gone])
    yield from _list("changed rules without a test", [*plan.tests.untested])
    yield from _list("names that nobody has", [*plan.unresolved])
    if plan.delivery.nodes:
        yield f"\ndelivery: {delivery_words(plan)}"
    if plan.refused:
        yield "\nrefused by a gate; an operator may approve the commit: mergescale gitops approve"
    yield f"\n{footer(plan)}"


def summary(plan: Plan) -> str:
    """Return one line: the verdict and how much it concerns."""
    if plan.verdict is Verdict.NO_EFFECT:
        return "verdict: no effect"
    blast = plan.blast
    return (
        f"verdict: {plan.verdict}; {blast.pairs} of {blast.of} pairs of devices change"
        f" ({blast.share:.1%}), {several(blast.nodes, 'device is', 'devices are')} told"
    )


def footer(plan: Plan) -> str:
    """Return what names the plan, and says if it does not tell everything."""
    hidden = {"names": ", without addresses", "counts": ", without names"}.get(plan.redacted, "")
    return f"plan {plan.hash[:12]}{hidden}"


def several(number: int, one: str, more: str) -> str:
    """Return a number with what it counts."""
    return f"{number} {one if number == 1 else more}"


def gate_words(one: Finding) -> str:
    """Return what a gate says."""
    who = f": {', '.join(one.who[:MAX_NAMES])}" if one.who else ""
    return f"{'refused' if one.refuses else 'warning'} ({one.gate}): {one.message}{who}"


def delivery_words(plan: Plan) -> str:
    """Return what it costs to tell the clients."""
    told = plan.delivery
    if not told.online:
        return "no device that is told is connected now"
    size = f"{told.bytes / 1000:,.0f} kB" if told.bytes >= _KILO else f"{told.bytes} bytes"
    return (
        f"{told.online} of {told.nodes} are connected; about {size} in"
        f" {several(told.messages, 'message', 'messages')},"
        f" within {told.seconds:g} s"
    )


def reach_words(row: Reach) -> str:
    """Return ``src -> dst : ports``."""
    src, dst, ip = (", ".join(few(one)) for one in (row.src, row.dst, row.ip))
    return f"{src} -> {dst} : {ip}"


def grant_words(row: Grant) -> str:
    """Return ``src -> dst : what``, or ``dst : what`` of what the devices themselves may."""
    src, dst = (", ".join(few(one)) for one in (row.src, row.dst))
    return f"{src} -> {dst} : {short(row.what)}" if src else f"{dst} : {short(row.what)}"


def short(what: str) -> str:
    """Return the beginning of what may be a long value."""
    return what if len(what) <= MAX_WHAT else f"{what[: MAX_WHAT - 1]}…"


def few(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names, but no more than a reader takes in, and how many are left out."""
    if len(names) <= MAX_NAMES:
        return names
    return (*names[: MAX_NAMES - 1], f"{len(names) - MAX_NAMES + 1} more")


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


def failing_words(plan: Plan) -> Iterator[str]:
    """Yield the expectations that fail, with a word about those that did before."""
    new = {*plan.tests.newly_failing}
    for one in plan.tests.failing:
        yield one if one in new else f"{one} (as before)"


def absent_words(plan: Plan) -> Iterator[tuple[str, list[str]]]:
    """Yield who has no device yet and will be given more, or less, by rules."""
    for word, names in (("more", plan.absent_gained), ("less", plan.absent_lost)):
        if names:
            yield f"without a device yet; rules give them {word}", list(names)


def identity_words(plan: Plan) -> Iterator[tuple[str, list[str]]]:
    """Yield each kind of change to who is what, with its entries."""
    identity = plan.identity
    for what, entries in (
        ("roles", identity.roles),
        ("groups", identity.groups),
        ("tag owners", identity.tag_owners),
        ("approvers", identity.approvers),
        ("settings", identity.settings),
        ("postures", identity.postures),
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


def printable(line: str) -> str:
    """Return what cannot act on a terminal; policies hold whatever people wrote."""
    return "".join(
        char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in line
    )
