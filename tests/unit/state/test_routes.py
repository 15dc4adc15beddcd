from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from mergescale.domain.prefixes import EXIT_ROUTES
from mergescale.domain.record import Put
from mergescale.kernel.errors import NotFound
from mergescale.kernel.ids import NodeId
from mergescale.state import routes
from support.access import table
from support.clock import START
from support.machines import decided
from support.worlds import named, routed, step, world

NET, OTHER = ip_network("10.0.0.0/24"), ip_network("10.0.1.0/24")


def test_approving_replaces() -> None:
    """Approving sets the whole list; approval does not need advertisement."""
    before = routed(world("tag:r: r"), "r", "10.0.0.0/24")
    after, node = decided(before, routes.approve(NodeId(1), [OTHER]), START)
    assert node.approved == {OTHER}
    assert node.routes == ()
    assert not after.primaries
    with pytest.raises(NotFound, match="no such node"):
        routes.approve(NodeId(9), [])(before, START)


@pytest.mark.parametrize("route", EXIT_ROUTES)
def test_one_exit_route_means_both(route: object) -> None:
    """A node is an exit node for both families or for none."""
    before = routed(world("tag:r: r"), "r", "0.0.0.0/0", "::/0", approved=False)
    _, node = decided(before, routes.approve(NodeId(1), [route]), START)  # type: ignore[list-item]
    assert node.routes == EXIT_ROUTES


def test_auto_approval_only_adds() -> None:
    """AutoApprovers add what they cover and leave earlier approvals alone."""
    declaration = table(approvers={"10.0.0.0/24": ["tag:r"]})
    before = world("tag:r: r", declaration=declaration)
    node = replace(named(before, "r"), advertised=(NET, OTHER))
    kept = replace(node, approved=frozenset({OTHER}))
    assert routes.auto_approved(before, node) == {NET}
    assert routes.auto_approved(before, kept) == {NET, OTHER}
    assert routes.auto_approved(step(before, [Put(kept)]), named(before, "r")) == frozenset()
