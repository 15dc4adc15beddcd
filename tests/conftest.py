"""Fixtures that several kinds of tests share."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypothesis import Phase, settings

from support.postgres import MISSING, PostgresServer

#: For ``make mutate``: the same examples each time, and no search for a smaller one.
settings.register_profile(
    "mutate", derandomize=True, database=None, phases=[Phase.explicit, Phase.generate]
)


def pytest_collection_finish() -> None:
    """Let the garbage collector not look through thousands of tests again and again: they stay."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Run PostgreSQL for all tests of this process; skip where it is not installed."""
    with PostgresServer.running() as server:
        if server is None:
            pytest.skip(MISSING)
        yield server


@pytest.fixture
def postgresql_url(postgres: PostgresServer) -> Iterator[str]:
    """A migrated database on PostgreSQL, of this test only."""
    url = postgres.new_database()
    yield url
    postgres.drop(url)
