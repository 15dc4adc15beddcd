"""How a real client becomes a node: by key, by a person's approval, by tags, and once more."""

from __future__ import annotations

import signal
from typing import Any

import httpx
import pytest

from support.real_clients import GoClient, eventually
from support.site import ALICE, BOB, Site

pytestmark = pytest.mark.interop


@pytest.mark.both_databases
def test_a_client_joins_by_key(site: Site) -> None:
    """A client with a pre-auth key is a connected node of the key's user, under its host name."""
    client = site.joined("laptop", user=ALICE)

    device = site.device("laptop")
    assert device["name"] == "laptop.default.tailnet.internal"
    assert (device["hostname"], device["os"]) == ("laptop", "linux")
    assert (device["user"], device["tags"]) == (ALICE, [])
    assert device["connectedToControl"]
    assert device["authorized"]
    assert not device["isEphemeral"]
    assert client.state == "Running"


@pytest.mark.both_databases
def test_a_bad_key_lets_nobody_in(site: Site) -> None:
    """A client whose key is wrong is told so and makes no node."""
    key = site.api.auth_key(user=ALICE)
    stranger = site.client("stranger", auth_key=f"{key[:-6]}aaaaaa").start()

    eventually("it is told", lambda: stranger.said("the auth key is not valid"))

    assert "stranger" not in site.api.devices()
    assert stranger.state == "NeedsLogin"


@pytest.mark.both_databases
def test_a_person_approves_a_client(site: Site) -> None:
    """A client without a key shows a URL, whose page names it; once approved it joins by itself."""
    client = site.client("desktop").start()
    login = _pending(site, client)
    assert client.login_url == f"{site.server.url}/register/{login['id']}"

    page = httpx.get(client.login_url)
    assert page.status_code == 200
    assert login["fingerprint"] in page.text
    assert f"auth approve {login['id']}" in page.text
    assert "desktop" in page.text
    assert "desktop" not in site.api.devices()

    _approve(site, login, user=BOB)
    site.settle(client)
    assert site.device("desktop")["user"] == BOB
    assert login not in _logins(site)
    assert httpx.get(client.login_url).text != page.text


def test_the_command_line_approves_a_client(site: Site) -> None:
    """``mergescale auth approve`` with the id that the page shows lets the client in."""
    client = site.client("tablet").start()
    login = _pending(site, client)

    done = site.server.cli("auth", "approve", str(login["id"]), "--user", ALICE)

    assert done.returncode == 0, done.stderr
    site.settle(client)
    assert site.device("tablet")["user"] == ALICE


def test_a_rejected_client_stays_out(site: Site) -> None:
    """A client whose login a person rejects is told so and makes no node."""
    client = site.client("intruder").start()
    login = _pending(site, client)

    answer = site.api.http.post(f"/logins/{login['id']}/reject")

    assert answer.status_code == 200, answer.text
    eventually("it is told", lambda: client.said("the login was rejected"))
    assert "intruder" not in site.api.devices()


def test_a_pending_login_survives_a_restart_of_the_server(site: Site) -> None:
    """A login that was pending when the server was killed is approvable after it is back."""
    client = site.client("patient").start()
    login = _pending(site, client)

    site.server.stop(signal.SIGKILL)
    site.server.start()

    assert login in _logins(site)
    _approve(site, login, user=ALICE)
    # A client that is refused a connection tries again some seconds later.
    site.settle(client, within_s=40)
    assert site.device("patient")["user"] == ALICE
    assert client.login_url == f"{site.server.url}/register/{login['id']}"


def test_tags_own_a_node(site: Site) -> None:
    """A client with a tagged key belongs to the tags, not to a person, and its key never expires."""
    site.joined_tagged("server", "tag:web", "tag:db")

    device = site.device("server")
    assert device["tags"] == ["tag:db", "tag:web"]
    assert device["user"] == "tagged-devices"
    assert device["keyExpiryDisabled"]
    assert _names(site, tags="tag:web") == ["server"]
    assert _names(site, tags="tag:db") == ["server"]
    assert _names(site, tags="tag:other") == []


def test_a_client_asks_for_tags_its_user_owns(site: Site) -> None:
    """A client that asks for a tag gets it with a key of the tag's owner, and only then."""
    site.joined("own", user=ALICE, tags=["tag:web"])
    assert site.device("own")["tags"] == ["tag:web"]

    foreign = site.client("foreign", auth_key=site.api.auth_key(user=BOB), tags=["tag:web"])
    foreign.start()
    eventually("it is told", lambda: foreign.said("tags 'tag:web' are not permitted"))
    assert "foreign" not in site.api.devices()


@pytest.mark.both_databases
def test_a_restarted_client_is_the_same_node(site: Site) -> None:
    """A client that starts again with its state keeps id, addresses and name; its key is spent."""
    client = site.joined("phoenix")
    before = site.device("phoenix")

    client.stop(signal.SIGKILL)
    client.start()
    site.settle(client)

    after = site.device("phoenix")
    kept = ("id", "nodeId", "name", "addresses", "user", "nodeKey", "machineKey", "created")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert len([name for name in site.api.devices() if name.startswith("phoenix")]) == 1


def test_two_clients_with_one_host_name(site: Site) -> None:
    """The second client of a host name gets a number, and both keep their names over a restart."""
    first = site.joined("twin")
    second = site.client("twin", folder="other-twin", auth_key=site.api.auth_key(user=ALICE))
    second.start()
    eventually("both are there", lambda: site.api.settled("twin", "twin-1") and second.ready)
    before = {name: site.device(name)["addresses"] for name in ("twin", "twin-1")}

    for client in (first, second):
        client.stop()
    for client in (second, first):
        client.start()
    eventually("both are back", lambda: first.ready and second.ready)

    twins = {name: one for name, one in site.api.devices().items() if name.startswith("twin")}
    assert {name: one["addresses"] for name, one in twins.items()} == before


def _pending(site: Site, client: GoClient) -> dict[str, Any]:
    """Return the login that a client waits at, once the client shows it to its user."""
    eventually(f"{client.name} asks for a login", lambda: client.login_url is not None)
    waiting = [login for login in _logins(site) if login["hostname"] == client.name]
    assert len(waiting) == 1
    return waiting[0]


def _logins(site: Site) -> list[dict[str, Any]]:
    answer = site.api.http.get("/tailnet/-/logins")
    assert answer.status_code == 200, answer.text
    logins: list[dict[str, Any]] = answer.json()["logins"]
    return logins


def _approve(site: Site, login: dict[str, Any], *, user: str) -> None:
    answer = site.api.http.post(f"/logins/{login['id']}/approve", json={"user": user})
    assert answer.status_code == 200, answer.text


def _names(site: Site, **filters: str) -> list[str]:
    """Return the names of the devices that the API's filters let through."""
    answer = site.api.http.get("/tailnet/-/devices", params=filters)
    assert answer.status_code == 200, answer.text
    return [device["name"].split(".")[0] for device in answer.json()["devices"]]
