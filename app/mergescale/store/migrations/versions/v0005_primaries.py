"""Who carries which subnet route; until now it was worked out anew at each start."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

#: Whoever may carry a route, in the order in which a start of the version before chose.
_ROUTERS = sa.text("""
    SELECT nodes.tailnet, nodes.id, nodes.advertised, nodes.approved
      FROM nodes
      LEFT JOIN users ON users.tailnet = nodes.tailnet AND users.id = nodes.user_id
     WHERE nodes.approved <> '[]' AND nodes.advertised <> '[]' AND nodes.authorized
       AND (users.id IS NULL OR NOT users.suspended)
     ORDER BY EXISTS (SELECT 1 FROM presence
                       WHERE presence.tailnet = nodes.tailnet AND presence.node_id = nodes.id) DESC,
              nodes.created, nodes.id
""")


def upgrade() -> None:
    """Go from the revision before to this one."""
    table = op.create_table(
        "primaries",
        sa.Column("tailnet", sa.String(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("node_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.PrimaryKeyConstraint("tailnet", "prefix", name="pk_primaries"),
        sa.ForeignKeyConstraint(["tailnet"], ["tailnets.name"], name="fk_primaries_tailnets"),
    )
    primaries: dict[tuple[str, str], int] = {}
    for row in op.get_bind().execute(_ROUTERS):
        for prefix in _routes(row):
            primaries.setdefault((row.tailnet, prefix), row.id)
    op.bulk_insert(
        table,
        [{"tailnet": t, "prefix": prefix, "node_id": n} for (t, prefix), n in primaries.items()],
    )


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_table("primaries")


def _routes(row: sa.Row[Any]) -> Iterator[str]:
    """Yield what the router carries; nothing where that cannot be read."""
    try:
        approved = set(json.loads(row.approved))
        yield from (p for p in json.loads(row.advertised) if p in approved and p[-2:] != "/0")
    except (ValueError, TypeError):
        return
