"""A plan as the comment of a pull request: GitHub-flavoured Markdown.

Everything that people wrote (names, addresses, messages) stands in code spans, where neither
mentions nor links nor HTML mean anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from mergescale.plan.model import Grant, Plan, Reach, Verdict
from mergescale.plan.text import (
    absent_words,
    delivery_words,
    effect_words,
    failing_words,
    few,
    footer,
    identity_words,
    several,
    short,
)

#: LIMIT: GitHub refuses comments of more than 65,536 characters, and others say more in theirs.
MAX_CHARACTERS: Final = 60_000
#: LIMIT: rows of one kind; fewer, step by step, where they are long.
_ROWS: Final = (40, 20, 10, 5, 2)
#: Found again by whoever updates the comment instead of adding another one.
MARKER = "<!-- mergescale-plan -->"

_WORDS = {
    Verdict.NO_EFFECT: "**No effect**: everybody reaches what they reached before.",
    Verdict.WIDENING: "**Widening**: somebody reaches or may do more than before, nobody less.",
    Verdict.NARROWING: "**Narrowing**: somebody reaches or may do less than before, nobody more.",
    Verdict.MIXED: "**Mixed**: some reach or may do more than before, some less.",
}


#: A verdict of what nobody's reach is about, as that of other name servers.
_BESIDE: Final = "**Mixed**: nobody reaches anything else than before, but something else changes."


def as_markdown(plan: Plan) -> str:
    """Return the plan as Markdown, with `MARKER` first, of at most `MAX_CHARACTERS`."""
    for rows in _ROWS:
        text = "\n".join(_lines(plan, rows)) + "\n"
        if len(text) <= MAX_CHARACTERS:
            return text
    # Names have bounds, but hundreds of fragments could fail with long messages.
    left_out = ("", "The rest is too long for a comment.", "", f"<sub>{footer(plan)}</sub>", "")
    return "\n".join((*_head(plan), *left_out))


def as_refusal(message: str, problems: Iterable[str]) -> str:
    """Return why there is no plan: what is wrong, each with the line of the text that it names."""
    text = "\n".join((MARKER, "### No plan", "", f"{code(message)}:", ""))
    left = MAX_CHARACTERS - len(text) - 100
    for one in problems:
        block = f"\n{fenced(one)}\n"
        left -= len(block)
        if left < 0:
            return f"{text}\nThe rest is too long for a comment.\n"
        text += block
    return text


def fenced(text: str) -> str:
    """Return a code block that holds the text literally, whatever ticks are in it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"


def _lines(plan: Plan, rows: int) -> Iterator[str]:
    yield from _head(plan)
    yield from _gates(plan)
    yield from _reach("Gained", plan.gained, rows)
    yield from _reach("Lost", plan.lost, rows)
    yield from _grants("May from now on", plan.grants_gained, rows)
    yield from _grants("May no longer", plan.grants_lost, rows)
    edges = [
        *(f"new: {one}" for one in plan.edges_gained),
        *(f"no longer: {one}" for one in plan.edges_lost),
    ]
    yield from _folded("Connections between groups and tags", edges, rows)
    for what, names in absent_words(plan):
        yield from _folded(what.capitalize(), names, rows)
    cut_off = [*plan.blast.cut_off]
    yield from _folded("Devices that lose every connection of their own", cut_off, rows)
    yield from _folded("Devices", [effect_words(one) for one in plan.nodes], rows)
    for what, entries in identity_words(plan):
        yield from _folded(what.capitalize(), entries, rows)
    yield from _tests(plan, rows)
    yield from _folded("Expectations that are gone", [*plan.tests.gone], rows)
    yield from _folded("Changed rules without a test", [*plan.tests.untested], rows)
    yield from _folded("Names that nobody has", [*plan.unresolved], rows)
    if plan.delivery.nodes:
        yield from ("", f"Delivery: {delivery_words(plan)}.")
    yield from ("", f"<sub>{footer(plan)}</sub>")


def _head(plan: Plan) -> Iterator[str]:
    rows = plan.gained, plan.lost, plan.grants_gained, plan.grants_lost
    reach = any((*rows, plan.absent_gained, plan.absent_lost))
    beside = plan.verdict is Verdict.MIXED and not reach
    yield from (MARKER, "### Plan", "", _BESIDE if beside else _WORDS[plan.verdict])
    if plan.verdict is not Verdict.NO_EFFECT:
        blast = plan.blast
        yield (
            f"{blast.pairs} of {blast.of} pairs of devices change ({blast.share:.1%});"
            f" {blast.connected} get their first connection, {blast.disconnected} lose their last."
            f" {several(blast.nodes, 'device is', 'devices are')} told."
        )


def _gates(plan: Plan) -> Iterator[str]:
    if not plan.gates:
        return
    yield ""
    for one in plan.gates:
        who = f": {_codes(few(one.who))}" if one.who else ""
        word = "⛔ **Refused**" if one.refuses else "⚠️ Warning"
        yield f"- {word} ({code(one.gate)}): {one.message}{who}"


def _reach(what: str, rows: tuple[Reach, ...], most: int) -> Iterator[str]:
    if not rows:
        return
    yield from ("", f"#### {what}", "", "| from | to | ports | pairs |", "|---|---|---|---:|")
    for row in rows[:most]:
        cells = (*(_cell(few(one)) for one in (row.src, row.dst, row.ip)), str(row.pairs))
        yield f"| {' | '.join(cells)} |"
    if len(rows) > most:
        yield f"\n… and {len(rows) - most} more rows."


def _grants(what: str, rows: tuple[Grant, ...], most: int) -> Iterator[str]:
    if not rows:
        return
    yield from ("", f"#### {what}", "", "| who | at | what |", "|---|---|---|")
    for row in rows[:most]:
        who = _cell(few(row.src)) if row.src else "the device itself"
        yield f"| {who} | {_cell(few(row.dst))} | {_cell((short(row.what),))} |"
    if len(rows) > most:
        yield f"\n… and {len(rows) - most} more rows."


def _tests(plan: Plan, most: int) -> Iterator[str]:
    tests = plan.tests
    if not tests.run and not tests.failing:
        return
    yield ""
    if tests.failing:
        yield f"#### {len(tests.failing)} of {tests.run} expectations fail"
        yield ""
        yield from (f"- {code(one)}" for one in [*failing_words(plan)][:most])
        if len(tests.failing) > most:
            yield f"- … and {len(tests.failing) - most} more"
    else:
        yield f"All {tests.run} expectations of the policy's tests hold."


def _folded(what: str, entries: list[str], most: int) -> Iterator[str]:
    if not entries:
        return
    yield from ("", f"<details><summary>{what} ({len(entries)})</summary>", "")
    yield from (f"- {code(one)}" for one in entries[:most])
    if len(entries) > most:
        yield f"- … and {len(entries) - most} more"
    yield from ("", "</details>")


def _codes(texts: Iterable[str]) -> str:
    return " ".join(map(code, texts))


def _cell(texts: Iterable[str]) -> str:
    """Return the same for a table, where a bar ends the cell even within code."""
    return _codes(texts).replace("|", "\\|")


def code(text: str) -> str:
    """Return a code span that holds the text literally."""
    plain = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
    ticks = "`"
    while ticks in plain:
        ticks += "`"
    space = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{ticks}{space}{plain}{space}{ticks}"
