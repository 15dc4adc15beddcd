"""How far the deployment in force has come at each replica."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go from the revision before to this one."""
    # Not in a batch: SQLite would copy the table.
    delivered: sa.Column[str] = sa.Column(
        "delivered", sa.Text(), nullable=False, server_default="[]"
    )
    op.add_column("following", delivered)


def downgrade() -> None:
    """Go back to the revision before."""
    with op.batch_alter_table("following") as table:
        table.drop_column("delivered")
