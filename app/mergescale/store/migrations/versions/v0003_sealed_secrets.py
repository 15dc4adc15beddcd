"""Which master key a server secret is sealed under; null for those that are still plain."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go from the revision before to this one."""
    with op.batch_alter_table("server_secrets") as table:
        table.add_column(sa.Column("sealed_by", sa.String(), nullable=True))


def downgrade() -> None:
    """Go back to the revision before; sealed secrets stay sealed, and that one cannot read them."""
    with op.batch_alter_table("server_secrets") as table:
        table.drop_column("sealed_by")
