"""A plan as the comment of a pull request: GitHub-flavoured Markdown.

Everything that people wrote (names, addresses, messages) stands in code spans, where neither
mentions nor links nor HTML mean anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mergescale.plan.model import Plan, Reach, Verdict
from mergescale.plan.text import effect_words, identity_words

#: LIMIT: rows of one kind; forges refuse comments of more than 64 kB.
MAX_ROWS = 40
#: Found again by whoever updates the comment instead of adding another one.
MARKER = "<!-- mergescale-plan -->"

_WORDS = {
    Verdict.NO_EFFECT: "**No effect**: everybody reaches what they reached before.",
    Verdict.WIDENING: "**Widening**: somebody reaches more than before, nobody less.",
    Verdict.NARROWING: "**Narrowing**: somebody reaches less than before, nobody more.",
    Verdict.MIXED: "**Mixed**: some reach more than before, some less.",
}


def as_markdown(plan: Plan) -> str:
    """Return the plan as Markdown, with `MARKER` first."""
    return "\n".join(_lines(plan)) + "\n"


def _lines(plan: Plan) -> Iterator[str]:
    yield MARKER
    yield "### What this change does to the network"
    yield ""
    yield _WORDS[plan.verdict]
    if plan.verdict is not Verdict.NO_EFFECT:
        blast = plan.blast
        yield ""
        yield (
            f"{blast.pairs} of {blast.of} pairs of devices change ({blast.share:.1%});"
            f" {blast.nodes} devices are told."
        )
    yield from _reach("Gained", plan.gained)
    yield from _reach("Lost", plan.lost)
    edges = [*(f"+ {one}" for one in plan.edges_gained), *(f"- {one}" for one in plan.edges_lost)]
    yield from _folded("Connections between groups and tags", edges)
    yield from _folded("Devices", [effect_words(one) for one in plan.nodes])
    for what, entries in identity_words(plan):
        yield from _folded(what.capitalize(), entries)
    yield from _tests(plan)
    yield from _folded("Changed rules without a test", [*plan.tests.untested])
    yield from _folded("Names that nobody has", [*plan.unresolved])
    yield ""
    yield f"<sub>plan {plan.hash[:12]}</sub>"


def _reach(what: str, rows: tuple[Reach, ...]) -> Iterator[str]:
    if not rows:
        return
    yield from ("", f"#### {what}", "", "| from | to | ports | pairs |", "|---|---|---|---:|")
    for row in rows[:MAX_ROWS]:
        cells = (_codes(row.src), _codes(row.dst), _codes(row.ip), str(row.pairs))
        yield f"| {' | '.join(cells)} |"
    if len(rows) > MAX_ROWS:
        yield f"\n… and {len(rows) - MAX_ROWS} more rows."


def _tests(plan: Plan) -> Iterator[str]:
    tests = plan.tests
    if not tests.run and not tests.failing:
        return
    yield ""
    if tests.failing:
        yield f"#### {len(tests.failing)} of {tests.run} expectations fail"
        yield ""
        yield from (f"- {code(one)}" for one in tests.failing[:MAX_ROWS])
    else:
        yield f"All {tests.run} expectations of the policy's tests hold."


def _folded(what: str, entries: list[str]) -> Iterator[str]:
    if not entries:
        return
    yield from ("", f"<details><summary>{what} ({len(entries)})</summary>", "")
    yield from (f"- {code(one)}" for one in entries[:MAX_ROWS])
    if len(entries) > MAX_ROWS:
        yield f"- … and {len(entries) - MAX_ROWS} more"
    yield from ("", "</details>")


def _codes(texts: Iterable[str]) -> str:
    return " ".join(map(code, texts))


def code(text: str) -> str:
    """Return a code span that holds the text literally, also inside a table."""
    plain = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
    plain = plain.replace("|", "\\|")
    ticks = "`"
    while ticks in plain:
        ticks += "`"
    space = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{ticks}{space}{plain}{space}{ticks}"
