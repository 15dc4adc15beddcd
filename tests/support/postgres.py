"""A PostgreSQL server of the tests' own: Debian's binaries, a scratch directory, a unix socket.

    with PostgresServer.running() as server:        # None where no binaries are found
        url = server.new_database()                 # migrated; made by copying a template
        server.restart()                            # as a crash would: immediate

It listens on no port. PostgreSQL refuses to run as root, so then it runs as an unprivileged user.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import psycopg
from psycopg import sql

from mergescale.store.schema import migrate

#: Why a test that needs PostgreSQL is left out.
MISSING: Final = "PostgreSQL's server programs are not installed (Debian: postgresql)"

_TEMPLATE: Final = "mergescale_template"
_SUPERUSER: Final = "mergescale"
_SETTINGS: Final = {
    "listen_addresses": "",
    "max_connections": "60",
    # The tests crash processes, never the machine: what the kernel was given is safe.
    "fsync": "off",
    "shared_buffers": "16MB",
    "autovacuum": "off",
}


def programs() -> Path | None:
    """Return the folder of ``initdb`` and ``pg_ctl``, of the newest version installed."""
    places = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: _number(path.parent.name)
    )
    found = shutil.which("initdb")
    if found is not None:
        places.insert(0, Path(found).resolve().parent)
    usable = [place for place in places if (place / "pg_ctl").exists()]
    return usable[-1] if usable else None


@dataclass(slots=True)
class PostgresServer:
    """One running server.

    Attributes:
        folder: data, socket and log; removed at the end.
    """

    bin: Path
    folder: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _has_template: bool = False

    @classmethod
    @contextlib.contextmanager
    def running(cls) -> Iterator[Self | None]:
        """Run a server for the block; yields None where none is installed."""
        found = programs()
        if found is None:
            yield None
            return
        # Not below pytest's folder: that is closed to others, and too deep for a socket's name.
        folder = Path(tempfile.mkdtemp(prefix="mergescale-pg-"))
        server = cls(found, folder)
        try:
            server.create()
            server.start()
            try:
                yield server
            finally:
                server.control("stop", "-m", "immediate")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def create(self) -> None:
        """Make the data directory."""
        user = _unprivileged()
        if user is not None:
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        self.run("initdb", "-U", _SUPERUSER, "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
        settings = {**_SETTINGS, "unix_socket_directories": str(self.folder)}
        with (self.folder / "data" / "postgresql.conf").open("a", encoding="ascii") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.control("start", "-w", "-l", str(self.folder / "log"))

    def restart(self) -> None:
        """Cut every connection, lose all memory, recover from the log, as after a crash."""
        self.control("restart", "-w", "-m", "immediate", "-l", str(self.folder / "log"))

    def control(self, *words: str) -> None:
        """Run ``pg_ctl``."""
        self.run("pg_ctl", *words)

    def run(self, program: str, *words: str) -> None:
        """Run one of PostgreSQL's programs on this server's data, as a user that it accepts."""
        user = _unprivileged()
        identity: dict[str, Any] = {}
        if user is not None:
            identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        # To a file: a server that is started inherits it, and would keep a pipe open for ever.
        with (self.folder / "programs").open("ab") as output:
            done = subprocess.run(
                [str(self.bin / program), *words],
                cwd=self.folder,
                env={
                    "PATH": os.environ["PATH"],
                    "PGDATA": str(self.folder / "data"),
                    "LC_ALL": "C",
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
                timeout=50,
                **identity,
            )
        assert done.returncode == 0, (self.folder / "programs").read_text("utf-8")[-2000:]

    def url(self, database: str) -> str:
        """Return the URL of one of its databases."""
        return f"postgresql+psycopg://{_SUPERUSER}@/{database}?host={self.folder}"

    def execute(self, statement: str, *names: str, database: str = "postgres") -> None:
        """Run a statement outside of a transaction; ``{}`` are names."""
        with psycopg.connect(
            host=str(self.folder), user=_SUPERUSER, dbname=database, autocommit=True
        ) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def new_database(self) -> str:
        """Return the URL of a migrated, empty database."""
        if not self._has_template:
            self.execute("CREATE DATABASE {}", _TEMPLATE)
            migrate(self.url(_TEMPLATE))
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
        return url.replace(f"{_SUPERUSER}@", f"{user}@", 1)

    def set(self, **settings: str) -> None:
        """Change settings of the running server; its processes learn of them in a moment."""
        for name, value in settings.items():
            self.execute(f"ALTER SYSTEM SET {{}} = '{value}'", name)
        self.control("reload")

    def drop(self, url: str) -> None:
        """Remove a database whoever is still connected to it."""
        self.execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", _database_of(url))


def _unprivileged() -> pwd.struct_passwd | None:
    """Return who runs the server: None for ourselves, somebody without rights if we are root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError("there is no unprivileged user to run PostgreSQL")


def _database_of(url: str) -> str:
    return url.rpartition("?")[0].rpartition("/")[2]


def _number(name: str) -> int:
    return int(name) if name.isdigit() else 0
