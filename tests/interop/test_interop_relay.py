"""Traffic through the server's own relay, where no direct path is allowed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from support.decided_story import OPEN, PEOPLE, dice_of, prologue, put_in_force
from support.in_process import InProcess, serving_in_process
from support.real_clients import GoClient, eventually, running

pytestmark = pytest.mark.interop

RELAY_ONLY = {"TS_DEBUG_ALWAYS_USE_DERP": "true"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    """Run one server in this process, with a policy that lets everybody in."""
    with serving_in_process(tmp_path_factory.mktemp("server")) as server:
        server.apply(*prologue()[:1])
        server.apply(*put_in_force(server.snapshot, dice_of(0), f"{{{OPEN}}}"))
        yield server


def test_traffic_goes_through_the_relay(server: InProcess, tmp_path: Path) -> None:
    """Clients without a direct path reach each other, and each packet passes our relay."""
    ann, ben = (
        GoClient(
            name,
            server.url,
            tmp_path / name,
            auth_key=server.auth_key(PEOPLE[0]),
            peers=[other],
            environment=RELAY_ONLY,
        )
        for name, other in (("ann", "ben"), ("ben", "ann"))
    )
    relay = server.server.relay
    assert relay is not None
    with running(ann, ben):
        # Without direct paths the clients' first network check takes them 3 s.
        eventually("both are on the relay", lambda: ann.ready and ben.ready, within_s=20)
        eventually("they know of each other", lambda: server.joined("ann", "ben"))
        eventually("there", lambda: ann.reaches("ben"), within_s=20)
        eventually("and back", lambda: ben.reaches("ann"), within_s=20)

        passed = relay.counters.packets
        assert ann.reaches("ben")
        assert relay.counters.packets - passed >= 6  # a TCP handshake, a request, a page, an end
        assert relay.counters.dropped_unknown == 0
        for name in ("ann", "ben"):
            node = server.node(name)
            assert node is not None
            counted = server.metrics(node)
            assert counted["magicsock_recv_data_derp"] > 0
            assert counted["magicsock_recv_data_ipv4"] == 0
            assert counted["magicsock_recv_data_ipv6"] == 0


def test_clients_know_the_relay_by_its_certificate(server: InProcess, tmp_path: Path) -> None:
    """The pinned certificate tells clients the relay's key, so that they save a round trip."""
    relay = server.server.relay
    assert relay is not None
    before = replace(relay.doors)
    client = GoClient("cat", server.url, tmp_path / "cat", auth_key=server.auth_key(PEOPLE[0]))
    with running(client):
        eventually("it is on the relay", lambda: client.ready, within_s=20)
        after = replace(relay.doors)
    assert after.admitted > before.admitted
    assert after.fast - before.fast == after.admitted - before.admitted
    assert after.refused == before.refused
