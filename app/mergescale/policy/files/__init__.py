"""The files of a watched repository besides the policy: one module per file.

Each module holds the file's JSON Schema (the one source of truth: ``schemas/`` is written from it,
``validate.py`` checks documents with it) and a reader that turns the syntax tree into domain values
and reports what a schema cannot say. Readers never raise on what a user wrote, and go on after an
error so that everything is told at once.
"""
