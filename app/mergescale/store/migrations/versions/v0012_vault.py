"""Secrets that the outside world asks for, sealed, one for each purpose of a tailnet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go from the revision before to this one."""
    op.create_table(
        "vault",
        sa.Column("tailnet", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("bound_to", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("created_s", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["tailnet"], ["tailnets.name"], name="fk_vault_tailnets"),
        sa.PrimaryKeyConstraint("tailnet", "purpose", name="pk_vault"),
    )


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_table("vault")
