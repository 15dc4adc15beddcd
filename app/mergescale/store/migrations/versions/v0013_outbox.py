"""What is to be said to the outside, and how far saying it is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go from the revision before to this one."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "outbox",
        sa.Column("tailnet", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("final", sa.Boolean(), nullable=False),
        sa.Column("delivered", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("said", moment, nullable=False),
        sa.Column("due", moment, nullable=False),
        sa.Column("trouble", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tailnet", "channel", "key", name="pk_outbox"),
        sa.ForeignKeyConstraint(["tailnet"], ["tailnets.name"], name="fk_outbox_tailnets"),
    )


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_table("outbox")
