"""The commit that the compiler was tried on last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go from the revision before to this one."""
    # Not in a batch: SQLite would copy the table.
    for name in ("trial_commit", "trial_reason"):
        text: sa.Column[str] = sa.Column(name, sa.Text(), nullable=False, server_default="")
        op.add_column("following", text)
    begun: sa.Column[int] = sa.Column(
        "trial_begun", sa.BigInteger(), nullable=False, server_default="0"
    )
    op.add_column("following", begun)


def downgrade() -> None:
    """Go back to the revision before."""
    with op.batch_alter_table("following") as table:
        for name in ("trial_commit", "trial_begun", "trial_reason"):
            table.drop_column(name)
