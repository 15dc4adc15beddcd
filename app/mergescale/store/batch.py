"""The writes of a batch, folded into the fewest statements that have their effect.

A batch becomes at most two statements per class, whatever its size: one that removes every row the
batch touches, one that inserts those that exist afterwards.

INVARIANT(remove-before-insert): all removals of a batch come before its first insert. Unique
constraints are checked row by row, and two nodes that exchange their names would collide in any
order of updates (or upserts); with the old rows of both gone, nothing is in the way. References
between tables are checked at the end of the transaction.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Delete, Insert, bindparam, delete, insert

from mergescale.domain.declaration import Deployment
from mergescale.domain.node import Node
from mergescale.domain.record import Counters, Drop, Presence, Put, Record, RecordKey, Write, key_of
from mergescale.kernel.ids import NodeId, TailnetName
from mergescale.store import tables
from mergescale.store.mapping import TABLES, Kind, key_columns, kind_of, to_row
from mergescale.store.rows import Values

Touched = tuple[Kind, RecordKey]

_KEY_COLUMNS: Final = {
    kind: tuple(c.name for c in table.primary_key.columns if c.name != "tailnet")
    for kind, table in TABLES.items()
}
_REMOVE: Final[dict[Kind, Delete]] = {
    kind: delete(table).where(
        table.c.tailnet == bindparam("tailnet"),
        *(table.c[column] == bindparam(column) for column in _KEY_COLUMNS[kind]),
    )
    for kind, table in TABLES.items()
}
_INSERT: Final[dict[Kind, Insert]] = {kind: insert(table) for kind, table in TABLES.items()}
_GO_OFFLINE: Final = delete(tables.PRESENCE).where(
    tables.PRESENCE.c.tailnet == bindparam("tailnet"),
    tables.PRESENCE.c.node_id == bindparam("node_id"),
)

#: The widest class a batch touched, for the journal's reader: first match wins.
_WIDEST: Final = (
    (Kind.DEPLOYMENT, "policy"),
    (Kind.USER, "users"),
    (Kind.NODE, "nodes"),
    (Kind.PRIMARY, "routes"),
    (Kind.PRESENCE, "presence"),
    (Kind.LOGIN, "logins"),
    (Kind.SSH_CHECK, "logins"),
    (Kind.AUTH_KEY, "keys"),
    (Kind.API_KEY, "keys"),
    (Kind.FOLLOWING, "repository"),
)


@dataclass(frozen=True, slots=True)
class Folded:
    """A batch by its effect: for each record the last thing that happened to it.

    Attributes:
        last: class and key -> the record as it is afterwards, None for gone.
        dropped: what was dropped on the way, even if put again.
    """

    last: dict[Touched, Record | None]
    dropped: dict[Touched, None]

    @classmethod
    def of(cls, writes: Sequence[Write]) -> Folded:
        """Fold the writes in their order."""
        folded = cls({}, {})
        for write in writes:
            where = kind_of(write.record), key_of(write.record)
            match write:
                case Put(record):
                    folded.last[where] = record
                case Drop(record):
                    folded.last[where] = None
                    folded.dropped[where] = None
                    if isinstance(record, Node):
                        folded._leave(record.id)
        return folded

    def _leave(self, gone: NodeId) -> None:
        """Forget the presence of a dropped node, as `Snapshot.apply` does."""
        for where, record in self.last.items():
            if isinstance(record, Presence) and record.node == gone:
                self.last[where] = None

    @property
    def counters(self) -> Values:
        """The columns of the tailnet's own row that change."""
        where = Kind.COUNTERS, None
        if where not in self.last:
            return {}
        return to_row(TailnetName(""), self.last[where] or Counters())

    @property
    def deployment(self) -> Deployment | None:
        """The deployment that comes into force."""
        match self.last.get((Kind.DEPLOYMENT, None)):
            case Deployment() as deployment:
                return deployment
            case _:
                return None

    @property
    def withdrawn(self) -> bool:
        """Say whether the deployment in force is taken away without another."""
        where = Kind.DEPLOYMENT, None
        return where in self.last and self.last[where] is None

    @property
    def kind(self) -> str:
        """One word for what the batch is about."""
        kinds = {kind for kind, _ in self.last}
        return next((word for kind, word in _WIDEST if kind in kinds), "none")

    def touched(self) -> str:
        """Return what `JournalRow.touched` holds."""
        drops = [[kind, key, "drop"] for kind, key in self.dropped]
        puts = [
            [kind, key, "put" if record is not None else "drop"]
            for (kind, key), record in self.last.items()
            if record is not None or (kind, key) not in self.dropped
        ]
        return json.dumps(drops + puts, separators=(",", ":"))

    def statements(self, tailnet: TailnetName) -> Iterator[tuple[Delete | Insert, list[Values]]]:
        """Yield statements on the tables of records with their rows of parameters, in order."""
        removals: dict[Kind, list[Values]] = {}
        inserts: dict[Kind, list[Values]] = {}
        for (kind, key), record in self.last.items():
            if kind not in TABLES:
                continue
            removals.setdefault(kind, []).append({"tailnet": tailnet, **key_columns(kind, key)})
            if record is not None:
                inserts.setdefault(kind, []).append(to_row(tailnet, record))
        offline = [
            {"tailnet": tailnet, "node_id": key} for kind, key in self.dropped if kind is Kind.NODE
        ]
        if offline:
            yield _GO_OFFLINE, offline
        for kind, rows in removals.items():
            yield _REMOVE[kind], rows
        for kind, rows in inserts.items():
            yield _INSERT[kind], rows


def read_touched(text: str) -> Iterator[tuple[Kind, RecordKey, bool]]:
    """Yield class, key and whether it was dropped, from `JournalRow.touched`.

    Raises:
        ValueError: not what `Folded.touched` wrote.
    """
    entry: Any
    for entry in json.loads(text):
        kind, key, what = entry
        yield Kind(kind), tuple(key) if isinstance(key, list) else key, what == "drop"
