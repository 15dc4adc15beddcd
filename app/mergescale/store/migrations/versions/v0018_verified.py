"""Who signed what came into force."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go from the revision before to this one."""
    # Not in a batch: SQLite would copy the table.
    text: sa.Column[str] = sa.Column("verified_by", sa.Text(), nullable=False, server_default="[]")
    op.add_column("deployments", text)


def downgrade() -> None:
    """Go back to the revision before."""
    with op.batch_alter_table("deployments") as table:
        table.drop_column("verified_by")
