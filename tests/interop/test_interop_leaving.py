"""How a real client stops being a node, or stops being let in."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping

import pytest

from support.real_clients import GoClient, eventually
from support.site import ALICE, OPEN, Site, open_site

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def shared_site(
    tmp_path_factory: pytest.TempPathFactory, database: Mapping[str, str]
) -> Iterator[Site]:
    """A site whose ephemeral nodes live one second once they are offline."""
    folder = tmp_path_factory.mktemp("site")
    with open_site(folder, settings=database, policy=OPEN, tailnet=_settings()) as site:
        yield site


@pytest.mark.both_databases
def test_a_deleted_node_is_logged_out(site: Site) -> None:
    """It is told so, loses its peers and its relay, and does not come back without a new key."""
    victim, peer = _pair(site, "victim", "witness")
    peer_address = site.device("witness")["addresses"][0]

    site.delete("victim")

    eventually("it knows", lambda: victim.state == "NeedsLogin")
    eventually("the peer lost it", lambda: peer.cut_off("victim"))
    assert victim.cut_off(peer_address)
    assert "victim" not in site.api.devices()

    victim.stop()
    victim.start()
    eventually("its spent key is refused", lambda: victim.said("the auth key was used already"))
    assert "victim" not in site.api.devices()


def test_a_deleted_node_comes_back_with_a_new_key(site: Site) -> None:
    """With a new key it is another node: no id, address or grant is inherited."""
    first = site.joined("lazarus")
    before = site.device("lazarus")
    site.delete("lazarus")
    first.stop()

    first.auth_key = site.api.auth_key(user=ALICE)
    first.start()
    site.settle(first)

    after = site.device("lazarus")
    assert after["id"] != before["id"]
    assert after["nodeId"] != before["nodeId"]


def test_an_ephemeral_node_is_gone_when_it_leaves(site: Site) -> None:
    """A client that ends in order logs out; its node is gone at once, and peers lose it."""
    leaver, peer = _pair(site, "leaver", "stayer", ephemeral=True)
    assert site.device("leaver")["isEphemeral"]

    assert leaver.stop(signal.SIGTERM) == 0

    assert "leaver" not in site.api.devices()
    eventually("the peer lost it", lambda: peer.cut_off("leaver"))


def test_an_ephemeral_node_is_gone_after_its_client_died(site: Site) -> None:
    """A client that is killed says nothing; its node is gone once it was offline long enough."""
    leaver = site.joined("crasher", ephemeral=True)
    site.joined("keeper")

    leaver.stop(signal.SIGKILL)

    # A grace period of 10 s, 1 s as the repository says, and the server looks every 5 s.
    eventually("it is gone", lambda: "crasher" not in site.api.devices(), within_s=40)
    assert "keeper" in site.api.devices()


@pytest.mark.both_databases
def test_an_operator_expires_a_key(site: Site) -> None:
    """The client asks for a login and is cut off; without key expiry it is back by itself."""
    client, peer = _pair(site, "expired", "friend")

    site.act("expired", "expire")

    eventually("it knows", lambda: client.state == "NeedsLogin")
    eventually("it is cut off", lambda: peer.cut_off("expired"))
    site.act("expired", "key", keyExpiryDisabled=True)
    eventually("it runs", lambda: client.state == "Running")
    # It is the one to speak first: WireGuard takes no call from a peer that was idle for 10 s.
    eventually("it reaches", lambda: client.reaches(client.peers[0]), within_s=30)
    eventually("it is reached", lambda: peer.reaches("expired"), within_s=30)


def test_a_device_waits_for_approval(site: Site) -> None:
    """Where the tailnet asks for it a new device has no peers until an operator approves it."""
    site.apply("approve devices", tailnet=_settings(deviceApproval=True))
    try:
        applicant = site.client("applicant", auth_key=site.api.auth_key(user=ALICE), peers=["desk"])
        desk = site.client("desk", auth_key=site.api.auth_key(user=ALICE, preauthorized=True))
        desk.start()
        site.settle(desk)
        desk_address = site.device("desk")["addresses"][0]
        applicant.peers = ["desk", desk_address]
        applicant.start()
        eventually("it waits", lambda: applicant.state == "NeedsMachineAuth")
        assert not site.device("applicant")["authorized"]
        assert applicant.cut_off(desk_address)

        site.act("applicant", "authorized", authorized=True)

        site.settle(applicant)
        eventually("it is let in", lambda: applicant.reaches("desk"), within_s=15)
    finally:
        site.apply("do not", tailnet=_settings())


def _pair(
    site: Site, name: str, other: str, *, ephemeral: bool = False
) -> tuple[GoClient, GoClient]:
    """Return two clients that were seen to reach each other."""
    second = site.joined(other, peers=[name])
    first = site.joined(name, peers=[site.device(other)["addresses"][0]], ephemeral=ephemeral)
    eventually("there", lambda: first.reaches(first.peers[0]), within_s=15)
    eventually("and back", lambda: second.reaches(name), within_s=15)
    return first, second


def _settings(**more: bool) -> str:
    return json.dumps({"ephemeralTimeout": "1s", **more})
