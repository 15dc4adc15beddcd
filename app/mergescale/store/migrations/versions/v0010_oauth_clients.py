"""OAuth clients beside API tokens: what they may have tokens for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go from the revision before to this one."""
    # Not in batches: SQLite would copy the table.
    column: sa.Column[str] = sa.Column("client_scopes", sa.Text(), nullable=True)
    op.add_column("api_keys", column)


def downgrade() -> None:
    """Go back to the revision before, which would take OAuth clients for API tokens."""
    op.execute("DELETE FROM api_keys WHERE client_scopes IS NOT NULL")
    with op.batch_alter_table("api_keys") as table:
        table.drop_column("client_scopes")
