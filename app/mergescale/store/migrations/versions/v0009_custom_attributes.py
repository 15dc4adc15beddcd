"""What is known of a device besides what its client says."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go from the revision before to this one."""
    # Not in batches: SQLite would copy the table.
    column: sa.Column[str] = sa.Column("custom", sa.Text(), nullable=False, server_default="[]")
    op.add_column("nodes", column)


def downgrade() -> None:
    """Go back to the revision before."""
    with op.batch_alter_table("nodes") as table:
        table.drop_column("custom")
