"""Whether the values of a row are of their columns' types: SQLite keeps whatever it is given."""

from __future__ import annotations

import functools
from typing import Any

from sqlalchemy import Row, Table


def check_types(table: Table, row: Row[Any]) -> None:
    """Check a row of all of the table's columns, in their order.

    Raises:
        ValueError: some value is of another type, or null where there has to be one.
    """
    for value, (name, wanted, nullable) in zip(row, _columns(table), strict=True):
        if not (isinstance(value, wanted) or (value is None and nullable)):
            raise ValueError(f"'{name}' is no {wanted.__name__}")


@functools.cache
def _columns(table: Table) -> tuple[tuple[str, type, bool], ...]:
    """Return name, type and whether null is a value, for each column."""
    return tuple((c.name, c.type.python_type, bool(c.nullable)) for c in table.columns)
