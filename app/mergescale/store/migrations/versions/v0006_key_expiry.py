"""Whether an operator switched a node's key expiry off.

Until now a new login switched it on again. Of the nodes whose key does not expire nobody can tell
for which of them it was meant, so it is for none.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go from the revision before to this one."""
    # Not in batches: SQLite would copy the table.
    column: sa.Column[bool] = sa.Column(
        "expiry_disabled", sa.Boolean(), nullable=False, server_default=sa.false()
    )
    op.add_column("nodes", column)


def downgrade() -> None:
    """Go back to the revision before."""
    with op.batch_alter_table("nodes") as table:
        table.drop_column("expiry_disabled")
