"""Databases for the tests of the store.

Every test that takes `database_url` runs once per kind of database; nothing in it may depend on
which one it is. Tests of SQLite's own behaviour take `sqlite_url`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mergescale.store.schema import migrate


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A migrated SQLite file."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'mergescale.db'}"
    migrate(url)
    return url


@pytest.fixture(params=["sqlite_url", "postgresql_url"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated, empty database of each kind that the server supports."""
    url: str = request.getfixturevalue(request.param)
    return url
