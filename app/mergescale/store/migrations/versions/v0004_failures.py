"""Failed attempts that are not forgiven yet, shared by all replicas."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go from the revision before to this one."""
    op.create_table(
        "failures",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("forgiven_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_failures"),
    )


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_table("failures")
