"""An ipset is what one gets by adding and removing its entries one after another."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from support.policies import policy

entries = st.lists(
    st.tuples(st.booleans(), st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=12
)


@settings(max_examples=200, deadline=None)
@given(written=entries)
def test_an_ipset_is_its_entries_in_order(written: list[tuple[bool, int, int]]) -> None:
    """The same addresses as with plain sets, in sorted stretches of which none touches another."""
    expected: set[int] = set()
    texts = []
    for removes, one, other in written:
        low, high = sorted((one, other))
        texts.append(f"{'remove' if removes else 'add'} 10.0.0.{low}-10.0.0.{high}")
        span = set(range(low, high + 1))
        expected = expected - span if removes else expected | span

    found = policy(json.dumps({"acls": [], "ipsets": {"ipset:a": texts}})).document.ip_sets[
        "ipset:a"
    ]

    base = 10 << 24
    assert {a - base for one in found for a in range(one.first, one.last + 1)} == expected
    assert all(left.last + 1 < right.first for left, right in pairwise(found))
