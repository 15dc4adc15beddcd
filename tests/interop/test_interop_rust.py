"""Another implementation: a client in Rust, which reads maps more strictly than Go does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.real_clients import eventually
from support.rust_client import RustClient, rust_client_installed
from support.site import ALICE, CLOSED, OPEN, WEB, Site

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not rust_client_installed(), reason="arkitekt-mesh is not installed"),
]


@pytest.fixture
def rusty(site: Site) -> Iterator[RustClient]:
    """Return a Rust client of Alice's, not joined yet."""
    key = site.api.auth_key(user=ALICE)
    with RustClient("rusty", site.server.url, site.folder / "rusty", key) as client:
        yield client
    if "rusty" in site.api.devices():
        site.delete("rusty")


def test_it_joins_and_reaches_a_go_client(site: Site, rusty: RustClient) -> None:
    """It joins by key and fetches a page from a Go client by its MagicDNS name."""
    site.apply("open", policy=OPEN)
    site.joined_tagged("gopher", "tag:web")

    rusty.join()

    eventually("the first page", lambda: rusty.reaches("gopher"), within_s=20)
    device = site.device("rusty")
    assert (device["user"], device["hostname"]) == (ALICE, "rusty")
    assert rusty.addresses == device["addresses"]
    reply = rusty.fetch("gopher")
    assert reply.body.removeprefix("hello from gopher ").split("\\n")[0] == device["addresses"][0]


def test_a_commit_cuts_and_restores_its_access(site: Site, rusty: RustClient) -> None:
    """A commit that takes the rule away cuts it off; reverting lets it in again."""
    site.apply("the web is open", policy=WEB)
    site.joined_tagged("gate", "tag:web")
    rusty.join()
    eventually("it is let in", lambda: rusty.reaches("gate"), within_s=20)

    site.apply("take it away", policy=CLOSED)
    eventually("it is cut off", lambda: rusty.cut_off("gate"), within_s=15)

    site.repository.git("revert", "--no-edit", "HEAD")
    eventually("it is let in again", lambda: rusty.reaches("gate"), within_s=20)


def test_it_learns_of_clients_that_join_later(site: Site, rusty: RustClient) -> None:
    """A node that joins after it arrives as a delta, and is reached."""
    site.apply("open", policy=OPEN)
    rusty.join()

    site.joined("latecomer")

    eventually("it is reached", lambda: rusty.reaches("latecomer"), within_s=20)


def test_a_bad_key_is_refused_with_a_reason(site: Site) -> None:
    """It shows the server's words to its user."""
    import arkitekt_mesh

    key = site.api.auth_key(user=ALICE)[:-4] + "aaaa"
    with (
        RustClient("reject", site.server.url, site.folder / "reject", key) as client,
        pytest.raises(arkitekt_mesh.Refused, match="the auth key is not valid"),
    ):
        client.join()
