"""A PostgreSQL server of one's own: Debian's programs, a scratch directory, a unix socket.

    with Cluster.running() as cluster:              # None where no programs are found
        url = cluster.create("one")

Its defaults are PostgreSQL's: what is committed is on disk. It listens on no port. PostgreSQL refuses to run
as root, so then it runs as an unprivileged user. The tests' server is this one with settings of theirs.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import psycopg
from psycopg import sql

#: Why what needs PostgreSQL is left out.
MISSING: Final = "PostgreSQL's server programs are not installed (Debian: postgresql)"

#: Who owns everything; whoever reaches the socket may be it.
SUPERUSER: Final = "mergescale"
#: LIMIT: ``initdb`` takes some seconds on a busy machine, the others less.
_PROGRAM_S: Final = 50


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
class Cluster:
    """One running server.

    Attributes:
        settings: lines of ``postgresql.conf``.
        bin: where its programs are.
        folder: data, socket and log; removed at the end.
    """

    settings: ClassVar[Mapping[str, str]] = {}

    bin: Path
    folder: Path

    @classmethod
    @contextlib.contextmanager
    def running(cls) -> Iterator[Self | None]:
        """Run a server for the block; yields None where none is installed."""
        found = programs()
        if found is None:
            yield None
            return
        # A short path: a socket's name has at most 107 bytes. And one that others may enter.
        folder = Path(tempfile.mkdtemp(prefix="mergescale-pg-"))
        cluster = cls(found, folder)
        try:
            cluster.initialise()
            cluster.start()
            try:
                yield cluster
            finally:
                cluster.control("stop", "-m", "immediate")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def initialise(self) -> None:
        """Make the data directory."""
        user = _unprivileged()
        if user is not None:
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        self._run("initdb", "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            **self.settings,
        }
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
        self._run("pg_ctl", *words)

    @property
    def pid(self) -> int:
        """Its first process; the others are children of that."""
        text = (self.folder / "data" / "postmaster.pid").read_text("ascii")
        return int(text.partition("\n")[0])

    def url(self, database: str) -> str:
        """Return the URL of one of its databases."""
        return f"postgresql+psycopg://{SUPERUSER}@/{database}?host={self.folder}"

    def create(self, database: str) -> str:
        """Make an empty database; return its URL."""
        self.execute("CREATE DATABASE {}", database)
        return self.url(database)

    def execute(self, statement: str, *names: str, database: str = "postgres") -> None:
        """Run a statement outside of a transaction; ``{}`` are names."""
        with psycopg.connect(
            host=str(self.folder), user=SUPERUSER, dbname=database, autocommit=True
        ) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def _run(self, program: str, *words: str) -> None:
        """Run one of PostgreSQL's programs on this server's data, as a user that it accepts.

        Raises:
            RuntimeError: it failed; has the end of what it said.
        """
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
                timeout=_PROGRAM_S,
                **identity,
            )
        if done.returncode != 0:
            said = (self.folder / "programs").read_text("utf-8", "replace")
            raise RuntimeError(f"{program} failed: {said[-2000:]}")


def _unprivileged() -> pwd.struct_passwd | None:
    """Return who runs the server: None for ourselves, somebody without rights if we are root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("there is no unprivileged user to run PostgreSQL")


def _number(name: str) -> int:
    return int(name) if name.isdigit() else 0
