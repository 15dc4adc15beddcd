from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mergescale.domain.change import NOTHING, Change
from mergescale.kernel.ids import LoginId, NodeId, UserId

numbers = st.integers(min_value=1, max_value=6)
changes = st.builds(
    Change,
    nodes=st.frozensets(numbers.map(NodeId)),
    users=st.frozensets(numbers.map(UserId)),
    access=st.booleans(),
    tailnet=st.booleans(),
    logins=st.frozensets(st.sampled_from("abc").map(LoginId)),
)


@given(changes, changes, changes)
def test_merging_is_associative(a: Change, b: Change, c: Change) -> None:
    """Pending changes may be merged in any grouping."""
    assert (a | b) | c == a | (b | c)


@given(changes, changes)
def test_merging_is_commutative(a: Change, b: Change) -> None:
    """Pending changes may be merged in any order."""
    assert a | b == b | a


@given(changes)
def test_merging_is_idempotent(a: Change) -> None:
    """A change that is merged twice is merged once; nothing adds nothing."""
    assert a | a == a
    assert a | NOTHING == a


@given(changes, changes)
def test_merging_loses_nothing(a: Change, b: Change) -> None:
    """What either change names, the merged one names."""
    both = a | b
    assert both.nodes == a.nodes | b.nodes
    assert both.users == a.users | b.users
    assert both.logins == a.logins | b.logins
    assert (both.access, both.tailnet) == (a.access or b.access, a.tailnet or b.tailnet)
    assert bool(both) is (bool(a) or bool(b))
