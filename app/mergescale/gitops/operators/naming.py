"""Which commit somebody means who gives some digits of its id."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from mergescale.kernel.errors import Conflict, Invalid, NotFound

_COMMIT: Final = re.compile("[0-9a-f]{7,64}")
_WHOLE: Final = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")


def whole_commit(commit: str, known: Iterable[str]) -> str:
    """Return the full id of a commit that may be shortened.

    Raises:
        Conflict: it is more than one of those known.
        Invalid: it is no object id.
        NotFound: a short one of none of them.
    """
    whole = one_of({one for one in known if one.startswith(checked(commit))}, commit)
    if whole is None and _WHOLE.fullmatch(commit):
        whole = commit
    if whole is None:
        raise NotFound(f'"{commit}" waits for nobody', help="give the whole id of the commit")
    return whole


def checked(commit: str) -> str:
    """Return what may be (the beginning of) an object id; raises Invalid for what may not."""
    if not _COMMIT.fullmatch(commit):
        raise Invalid(f'"{commit}" is no commit', help="give 7 hex digits of its id or more")
    return commit


def one_of(found: set[str], commit: str) -> str | None:
    """Return the one that was found, None for none; raises Conflict for more than one."""
    if len(found) > 1:
        raise Conflict(f'"{commit}" is more than one commit', help="give more of its id")
    return next(iter(found), None)
