"""Alembic's environment; `store.schema` runs it.

A revision is a module of ``versions`` that says in plain operations what changes. It never imports
``store.tables``: those are of today, a revision is of its day. A test compares what all revisions
make with the tables.
"""
