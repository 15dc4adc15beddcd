"""What a policy may say itself, and a file beside it too: once is enough, and never both ways."""

from __future__ import annotations

from collections.abc import Mapping

from mergescale.policy.diagnostics import Report, Span
from mergescale.policy.hujson import Kind, Member, Value


def check_overlaps(policy: Value, beside: Mapping[str, Value], report: Report) -> None:
    """Report what both say; each error names the other place.

    Args:
        policy: the whole policy, of all its files.
        beside: name of a file -> what it holds.
        report: gets the errors.
    """
    _relays(policy, beside.get("derp.hujson"), report)
    _client_port(policy, beside.get("tailnet.hujson"), report)


def _relays(policy: Value, file: Value | None, report: Report) -> None:
    held = _section(policy, "derpMap")
    if held is None or file is None:
        return
    first = next((one for one in file.members if one.key != "$schema"), None)
    if first is not None:
        message = "relays are declared in the policy and in a file of their own"
        _both(message, held.key_span, first.key_span, report)


def _client_port(policy: Value, file: Value | None, report: Report) -> None:
    held = _section(policy, "randomizeClientPort")
    other = None if file is None else _section(file, "randomizeClientPort")
    if held is None or other is None or held.value.scalar == other.value.scalar:
        return
    message = "randomizeClientPort is set to one value here and to the other elsewhere"
    _both(message, held.key_span, other.key_span, report)


def _section(value: Value, name: str) -> Member | None:
    wanted = name.casefold()
    return next(
        (
            one
            for one in value.members
            if one.key.casefold() == wanted and one.value.kind is not Kind.NULL
        ),
        None,
    )


def _both(message: str, here: Span, there: Span, report: Report) -> None:
    place = f"{there.file}:{there.start_line}:{there.start_column}"
    help_ = f"the other one is at {place}; keep one of them"
    report.error("repository.twice", here, message, help_)
