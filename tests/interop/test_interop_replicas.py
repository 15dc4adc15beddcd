"""Real clients of two server processes on one PostgreSQL database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.postgres import PostgresServer
from support.real_clients import eventually
from support.replicas import Replica, replicas, without_access
from support.site import Site

# Several processes start for each test.
pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


@dataclass(slots=True)
class Sites:
    """The same tailnet, from one replica and from the other."""

    one: Site
    two: Site


@pytest.fixture
def sites(postgres: PostgresServer, tmp_path: Path) -> Iterator[Sites]:
    """Run two replicas, each with a relay of its own."""
    with ExitStack() as resources:
        pair = resources.enter_context(replicas(postgres, tmp_path, relay="true"))

        def site(replica: Replica) -> Site:
            api = replica.api()
            resources.callback(api.http.close)
            clients = resources.enter_context(ExitStack())
            return Site(tmp_path, pair.repository, replica.process, api, clients)

        yield Sites(site(pair.one), site(pair.two))


def test_clients_of_two_replicas_are_in_one_tailnet(sites: Sites) -> None:
    """One fetches a page from the other; a commit cuts it, and its revert lets it in again."""
    web = sites.two.joined_tagged("shop", "tag:web")
    alice = sites.one.joined("alices", peers=["shop"])
    eventually("alice is let in", lambda: alice.reaches("shop"), within_s=20)

    sites.two.apply("take it away", policy=without_access(sites.two.repository))
    eventually("alice is cut off", lambda: alice.cut_off("shop"), within_s=15)

    sites.one.repository.git("revert", "--no-edit", "HEAD")
    eventually("alice is let in again", lambda: alice.reaches("shop"), within_s=20)
    assert (alice.state, web.state) == ("Running", "Running")
