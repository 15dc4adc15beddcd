"""Approvals of commits that gates or freeze windows hold back; who approved what is in force."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_TEXTS = {
    "following": (("approvals", "[]"),),
    "deployments": (("approved_by", ""), ("approved_because", "")),
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


def downgrade() -> None:
    """Go back to the revision before."""
    for table, columns in _TEXTS.items():
        with op.batch_alter_table(table) as batch:
            for name, _ in columns:
                batch.drop_column(name)
