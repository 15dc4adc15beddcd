"""What replicas tell each other of the watched repository."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go from the revision before to this one."""
    op.create_table(
        "following",
        sa.Column("tailnet", sa.String(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("asked", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("answered", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.PrimaryKeyConstraint("tailnet", name="pk_following"),
        sa.ForeignKeyConstraint(["tailnet"], ["tailnets.name"], name="fk_following_tailnets"),
    )


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_table("following")
