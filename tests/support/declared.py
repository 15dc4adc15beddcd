"""Reads a small repository and shows what is said about it, with the text that is underlined."""

from __future__ import annotations

from collections.abc import Mapping

from mergescale.domain.declaration import Declaration
from mergescale.policy.repository import declare

POLICY = '{"acls": []}'


def good(files: Mapping[str, str]) -> Declaration:
    """Return what the files mean, beside an empty policy; they must have no errors."""
    declaration, diagnostics = declare({"policy.hujson": POLICY, **files})
    assert declaration is not None, diagnostics
    return declaration


def said(files: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    """Return (place, underlined text, message, help) of everything that is said, in order."""
    whole = {"policy.hujson": POLICY, **files}
    declaration, diagnostics = declare(whole)
    errors = any(one.severity == "error" for one in diagnostics)
    assert (declaration is None) is errors
    return [
        (
            f"{one.span.file}:{one.span.start_line}:{one.span.start_column}",
            whole.get(one.span.file, "")[one.span.offset_start : one.span.offset_end],
            one.message,
            one.help,
        )
        for one in diagnostics
    ]
