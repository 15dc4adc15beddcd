"""What is wrong with a policy, in the shape that gitops-pusher and Terraform read.

{"message": "test(s) failed", "data": [{"user": "alice@example.com", "errors": ["…"]}]}
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from mergescale.domain.declaration import Policy
from mergescale.policy.compiled import CompiledPolicy
from mergescale.policy.diagnostics import Diagnostic, Severity, Span

#: Codes of expectations that do not hold; everything else is a mistake in the text.
_TESTS: Final = frozenset({"policy.test-failed", "policy.ssh-test-failed"})
_FAILED: Final = "test(s) failed"


class Finding(Struct, frozen=True, omit_defaults=True):
    """What is wrong with the tests of one source, or with the text.

    Attributes:
        user: ``src`` of the tests, whatever kind it is; empty for the text.
    """

    user: str = ""
    errors: list[str] = []
    warnings: list[str] = []


class Verdict(Struct, frozen=True, omit_defaults=True):
    """What is wrong with a policy; ``{}`` for nothing.

    Attributes:
        message: the first thing, as ``line 5, column 3: …`` where it has a place, which
            gitops-pusher turns into an annotation.
    """

    message: str = ""
    data: list[Finding] = []


def verdict(
    diagnostics: Sequence[Diagnostic], policy: Policy | None = None, *, placed: bool = True
) -> Verdict:
    """Return what is wrong; warnings alone are nothing.

    Args:
        diagnostics: of the policy, sorted by place.
        policy: whose tests failed, to tell of which source they are.
        placed: the places mean something to whoever asked.
    """
    errors = [one for one in diagnostics if one.severity is Severity.ERROR]
    mistakes = [one for one in errors if one.code not in _TESTS]
    if mistakes:
        texts = [_line(one, placed=placed) for one in mistakes]
        return Verdict(texts[0], [Finding(errors=texts)])
    if not errors:
        return Verdict()
    found: dict[str, list[str]] = {}
    for one in errors:
        found.setdefault(_source(one.span, policy), []).append(one.message)
    return Verdict(_FAILED, [Finding(user, texts) for user, texts in found.items()])


def warnings(diagnostics: Iterable[Diagnostic]) -> list[str]:
    """Return the warnings, one line each."""
    return [_line(one) for one in diagnostics if one.severity is Severity.WARNING]


def _line(one: Diagnostic, *, placed: bool = True) -> str:
    text = f"{one.message}; {one.help}" if one.help else one.message
    span = one.span
    return f"line {span.start_line}, column {span.start_column}: {text}" if placed else text


def _source(span: Span, policy: Policy | None) -> str:
    """Return the source of the test that an expectation belongs to."""
    if not isinstance(policy, CompiledPolicy):
        return ""
    document = policy.document
    tests = [(one.span, str(one.source)) for one in document.tests]
    tests += [(one.span, str(one.source)) for one in document.ssh_tests]
    return next((source for test, source in tests if _holds(test, span)), "")


def _holds(outer: Span, inner: Span) -> bool:
    inside = outer.offset_start <= inner.offset_start < outer.offset_end
    return inside and outer.file == inner.file
