"""What operators put in force in place of the repository's, pinned commits, and when it all ends."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go from the revision before to this one."""
    # Not in batches: SQLite would copy the tables.
    for table, name in (("following", "held_until"), ("deployments", "until")):
        until: sa.Column[datetime] = sa.Column(name, sa.DateTime(timezone=True), nullable=True)
        op.add_column(table, until)
    commit: sa.Column[str] = sa.Column("held_commit", sa.Text(), nullable=False, server_default="")
    op.add_column("following", commit)
    override: sa.Column[str] = sa.Column("override", sa.Text(), nullable=True)
    op.add_column("following", override)


def downgrade() -> None:
    """Go back to the revision before."""
    with op.batch_alter_table("following") as table:
        for name in ("held_until", "held_commit", "override"):
            table.drop_column(name)
    with op.batch_alter_table("deployments") as table:
        table.drop_column("until")
