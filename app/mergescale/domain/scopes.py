"""What a caller may do, in the words of Tailscale's API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final


class Scope(StrEnum):
    """A part of the API, to change or, with ``:read``, to look at.

    What has no scope of its own needs one of the first two.
    """

    ALL = "all"
    ALL_READ = "all:read"
    POLICY = "policy_file"
    POLICY_READ = "policy_file:read"


#: Any of these is enough for it.
_ENOUGH: Final[Mapping[Scope, frozenset[Scope]]] = {
    Scope.ALL: frozenset({Scope.ALL}),
    Scope.ALL_READ: frozenset({Scope.ALL, Scope.ALL_READ}),
    Scope.POLICY: frozenset({Scope.ALL, Scope.POLICY}),
    Scope.POLICY_READ: frozenset(Scope),
}


def covers(held: Iterable[Scope], wanted: Scope) -> bool:
    """Say whether what is held is enough for what is wanted."""
    return not _ENOUGH[wanted].isdisjoint(held)


def known(words: Iterable[str]) -> frozenset[Scope]:
    """Return the scopes among the words; those of other versions of this server open nothing."""
    names = {str(scope) for scope in Scope}
    return frozenset(Scope(word) for word in words if word in names)
