"""A PostgreSQL server of the tests' own: the benchmark's, with settings for speed and a template.

with PostgresServer.running() as server:        # None where no programs are found
    url = server.new_database()                 # migrated; made by copying a template
    server.restart()                            # as a crash would: immediate
    with server.standby() as follower: ...      # streams all that is committed, and may be promoted
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
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

    @contextlib.contextmanager
    def standby(self, **settings: str) -> Iterator[PostgresServer]:
        """Run another server for the block that has all that this one has and will have."""
        follower = PostgresServer(self.bin, Path(tempfile.mkdtemp(prefix="mergescale-pg-")))
        try:
            shutil.copystat(self.folder, follower.folder)
            shutil.chown(follower.folder, self.folder.stat().st_uid, self.folder.stat().st_gid)
            source = ("-h", str(self.folder), "-U", SUPERUSER, "--checkpoint=fast", "--no-sync")
            follower._run(
                "pg_basebackup",
                *source,
                "--write-recovery-conf",
                "-D",
                str(follower.folder / "data"),
            )
            own = {"unix_socket_directories": str(follower.folder), **settings}
            with (follower.folder / "data" / "postgresql.conf").open("a", encoding="ascii") as file:
                file.writelines(f"{name} = '{value}'\n" for name, value in own.items())
            follower.start()
            try:
                yield follower
            finally:
                follower.control("stop", "-m", "immediate")
        finally:
            shutil.rmtree(follower.folder, ignore_errors=True)

    def promote(self) -> None:
        """Let a standby take writes."""
        self.control("promote", "-w")

    def drop(self, url: str) -> None:
        """Remove a database whoever is still connected to it."""
        self.execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", _database_of(url))


def _database_of(url: str) -> str:
    return url.rpartition("?")[0].rpartition("/")[2]
