"""The file that a backup is: one zstd frame of JSON lines, the same for every database.

::

    {"format": "mergescale-backup", "version": 1, "schema": "0003", "made": "…", …}     `Header`
    {"table": "nodes", "columns": {"tailnet": "plain", "machine_key": "bytes", …}}
    ["default", "q83v…", …]                                                             a row
    …
    {"rows": 1234, "sha256": "…"}           rows in all, digest of every line before this one

``zstd -dc FILE`` shows it. Bytes are base64, times RFC 3339 in UTC. The digest tells damage and a
file that was cut short; a reader goes through the whole file before it believes a line of it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import msgspec
import zstandard

from mergescale.kernel.errors import MergescaleError

FORMAT: Final = "mergescale-backup"
VERSION: Final = 1

#: LIMIT: the longest line is a deployment's files, a few MiB at most.
_LONGEST_LINE_BYTES = 256 << 20


class BackupUnusable(MergescaleError):
    """Raised when a file is no backup, is damaged, or is of a newer version."""

    code = "store.backup"


class Header(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a backup says of itself.

    Attributes:
        schema: revision of the database's schema.
        made: when the rows were read.
        server: version of the program that wrote it.
        sealed_by: fingerprint of the master key that its secrets are sealed under.
        master_key: that key's text, if it was asked for.
    """

    schema: str
    made: datetime
    server: str
    sealed_by: str = ""
    master_key: str = ""


class Form(StrEnum):
    """How a column's values are written."""

    PLAIN = "plain"
    BYTES = "bytes"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Table:
    """The beginning of a table's rows."""

    name: str
    columns: Mapping[str, Form]


class Writer:
    """Writes an archive to an open file; `close` ends it."""

    def __init__(self, file: BinaryIO, header: Header) -> None:
        self._zstd = zstandard.ZstdCompressor(write_checksum=True).stream_writer(
            file, closefd=False
        )
        self._digest = sha256()
        self._forms: Sequence[Form] = ()
        self._rows = 0
        self._line({"format": FORMAT, "version": VERSION, **msgspec.to_builtins(header)})

    def table(self, table: Table) -> None:
        """Begin a table."""
        self._forms = tuple(table.columns.values())
        self._line({"table": table.name, "columns": table.columns})

    def row(self, values: Sequence[Any]) -> None:
        """Write a row of the table begun last."""
        self._rows += 1
        self._line([_written(value, form) for value, form in zip(values, self._forms, strict=True)])

    def close(self) -> int:
        """Write the last line; return the number of rows."""
        self._line({"rows": self._rows, "sha256": self._digest.hexdigest()})
        self._zstd.flush(zstandard.FLUSH_FRAME)
        return self._rows

    def _line(self, value: object) -> None:
        line = json.dumps(value, separators=(",", ":")).encode() + b"\n"
        self._digest.update(line)
        self._zstd.write(line)


@dataclass(frozen=True, slots=True)
class Archive:
    """A whole, undamaged backup; make it with `open`."""

    path: Path
    header: Header

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read a file from end to end.

        Raises:
            BackupUnusable: it cannot be read, is no backup, is damaged or is of a newer version.
        """
        digest, last, rows = sha256(), b"", 0
        lines = _lines(path)
        header = _header(path, next(lines, b""), digest)
        for line in lines:
            if last:
                digest.update(last)
                rows += last.startswith(b"[")
            last = line
        try:
            end = json.loads(last)
            whole = end["sha256"] == digest.hexdigest() and end["rows"] == rows
        except (ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            raise _damaged(path)
        return cls(path, header)

    def contents(self) -> Iterator[Table | list[Any]]:
        """Yield each table and, after it, its rows."""
        lines = _lines(self.path)
        next(lines)
        forms: Sequence[Form] = ()
        for line in lines:
            value = json.loads(line)
            if isinstance(value, list):
                yield [_read(one, form) for one, form in zip(value, forms, strict=True)]
            elif "table" in value:
                columns = {name: Form(form) for name, form in value["columns"].items()}
                forms = tuple(columns.values())
                yield Table(value["table"], columns)


def _lines(path: Path) -> Iterator[bytes]:
    rest = b""
    try:
        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as plain:
            while chunk := plain.read(1 << 20):
                *whole, rest = (rest + chunk).split(b"\n")
                yield from (line + b"\n" for line in whole)
                if len(rest) > _LONGEST_LINE_BYTES:
                    raise _damaged(path)
    except zstandard.ZstdError:
        raise _damaged(path) from None
    except OSError as error:
        raise BackupUnusable(f'the backup "{path}" cannot be read: {error.strerror}') from None


def _header(path: Path, line: bytes, digest: Any) -> Header:
    digest.update(line)
    try:
        said = json.loads(line)
        if said["format"] != FORMAT:
            raise _damaged(path)
        if said["version"] > VERSION:
            raise BackupUnusable(
                f'the backup "{path}" is of a newer version of the server',
                help="restore it with that version",
            )
        return msgspec.convert(said, Header)
    except (ValueError, KeyError, TypeError):
        raise _damaged(path) from None


def _damaged(path: Path) -> BackupUnusable:
    return BackupUnusable(
        f'"{path}" is no whole backup: it is something else, cut short or changed',
        help="nothing was restored; take another backup",
    )


def _written(value: Any, form: Form) -> Any:
    if value is None:
        return None
    match form:
        case Form.BYTES:
            return base64.b64encode(value).decode("ascii")
        case Form.TIME:
            moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
            return moment.isoformat()
        case Form.PLAIN:
            return value


def _read(value: Any, form: Form) -> Any:
    if value is None:
        return None
    match form:
        case Form.BYTES:
            return base64.b64decode(value)
        case Form.TIME:
            return datetime.fromisoformat(value)
        case Form.PLAIN:
            return value
