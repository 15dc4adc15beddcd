"""Logins over SSH that a person has to approve, or has approved."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go from the revision before to this one."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "ssh_checks",
        sa.Column("tailnet", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("source_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("target_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("local_user", sa.String(), nullable=False),
        sa.Column("created", moment, nullable=False),
        sa.Column("expires", moment, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("decided", moment, nullable=True),
        sa.PrimaryKeyConstraint("tailnet", "id", name="pk_ssh_checks"),
        sa.ForeignKeyConstraint(["tailnet"], ["tailnets.name"], name="fk_ssh_checks_tailnets"),
    )


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_table("ssh_checks")
