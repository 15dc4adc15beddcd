"""What operators say about following: suspended, skipped, accepted; who put a commit in force."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_TEXTS = {
    "following": (("held_reason", ""), ("held_by", ""), ("skipped", "[]"), ("accepted", "")),
    "deployments": (("applied_by", ""), ("reason", "")),
}


def upgrade() -> None:
    """Go from the revision before to this one."""
    # Not in batches: SQLite would copy the tables.
    for table, columns in _TEXTS.items():
        for name, default in columns:
            text: sa.Column[str] = sa.Column(
                name, sa.Text(), nullable=False, server_default=default
            )
            op.add_column(table, text)
    held: sa.Column[bool] = sa.Column(
        "held", sa.Boolean(), nullable=False, server_default=sa.false()
    )
    op.add_column("following", held)
    since: sa.Column[datetime] = sa.Column("held_since", sa.DateTime(timezone=True), nullable=True)
    op.add_column("following", since)


def downgrade() -> None:
    """Go back to the revision before."""
    with op.batch_alter_table("following") as table:
        for name in ("held", "held_since", *(name for name, _ in _TEXTS["following"])):
            table.drop_column(name)
    with op.batch_alter_table("deployments") as table:
        for name, _ in _TEXTS["deployments"]:
            table.drop_column(name)
