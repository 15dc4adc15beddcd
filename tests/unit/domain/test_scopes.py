from __future__ import annotations

import pytest

from mergescale.domain.scopes import Scope, covers, known

ENOUGH = {
    "all": {"all"},
    "all:read": {"all", "all:read"},
    "policy_file": {"all", "policy_file"},
    "policy_file:read": {"all", "all:read", "policy_file", "policy_file:read"},
}


@pytest.mark.parametrize("wanted", Scope)
@pytest.mark.parametrize("held", Scope)
def test_writing_is_enough_for_reading_and_never_the_other_way(held: Scope, wanted: Scope) -> None:
    """Every pair of scopes is decided as the table says."""
    assert covers({held}, wanted) is (held in ENOUGH[wanted])


def test_nothing_covers_nothing() -> None:
    """Who holds no scope may do nothing; words of other versions count for nothing."""
    assert not any(covers(known(["devices:core", "ALL", ""]), wanted) for wanted in Scope)
