"""Which requests for a look want a refused commit judged again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go from the revision before to this one."""
    # Not in a batch: SQLite would copy the table.
    number: sa.Column[int] = sa.Column(
        "retried", sa.BigInteger(), nullable=False, server_default="0"
    )
    op.add_column("following", number)


def downgrade() -> None:
    """Go back to the revision before."""
    with op.batch_alter_table("following") as table:
        table.drop_column("retried")
