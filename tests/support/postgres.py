"""A PostgreSQL server of the tests' own: the benchmark's, with settings for speed and a template.

with PostgresServer.running() as server:        # None where no programs are found
    url = server.new_database()                 # migrated; made by copying a template
    server.restart()                            # as a crash would: immediate
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import psycopg

from bench.postgres import MISSING, SUPERUSER, Cluster
from mergescale.store.schema import migrate

__all__ = ["MISSING", "PostgresServer"]

_TEMPLATE = "mergescale_template"


@dataclass(slots=True)
class PostgresServer(Cluster):
    """One running server."""

    settings: ClassVar[Mapping[str, str]] = {
        "max_connections": "60",
        # The tests crash processes, never the machine: what the kernel was given is safe.
        "fsync": "off",
        "shared_buffers": "16MB",
        "autovacuum": "off",
    }

    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _has_template: bool = False

    def new_database(self) -> str:
        """Return the URL of a migrated, empty database."""
        if not self._has_template:
            migrate(self.create(_TEMPLATE))
            self._has_template = True
        name = f"t{next(self._numbers)}"
        self.execute("CREATE DATABASE {} TEMPLATE {}", name, _TEMPLATE)
        return self.url(name)

    def limited(self, url: str, *, connections: int) -> str:
        """Return the URL of the same database for a user who may have so many connections."""
        user = f"limited{connections}"
        with contextlib.suppress(psycopg.errors.DuplicateObject):
            self.execute(f"CREATE ROLE {{}} LOGIN CONNECTION LIMIT {connections}", user)
        grant = "GRANT ALL ON ALL TABLES IN SCHEMA public TO {}"
        self.execute(grant, user, database=_database_of(url))
        return url.replace(f"{SUPERUSER}@", f"{user}@", 1)

    def set(self, **settings: str) -> None:
        """Change settings of the running server; its processes learn of them in a moment."""
        for name, value in settings.items():
            self.execute(f"ALTER SYSTEM SET {{}} = '{value}'", name)
        self.control("reload")

    def drop(self, url: str) -> None:
        """Remove a database whoever is still connected to it."""
        self.execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", _database_of(url))


def _database_of(url: str) -> str:
    return url.rpartition("?")[0].rpartition("/")[2]
