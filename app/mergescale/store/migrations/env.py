"""Runs revisions on the connection that `store.schema` opened, in its transaction."""

from __future__ import annotations

from alembic import context

from mergescale.store.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    # SQLite cannot alter most things; Alembic then copies the table.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
