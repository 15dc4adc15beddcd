"""The only SQL: what survives a restart, and how replicas learn what another one wrote.

* ``database.py`` opens SQLite or PostgreSQL from a URL and turns driver errors into ours.
* ``schema.py`` brings a database to the newest schema (Alembic, ``migrations/``).
* ``tables.py`` are the tables, ``mapping.py`` turns records into rows and back.
* ``journal.py`` is `state.ports.Journal`: ``batch.py`` folds what it writes, ``reading.py`` has
  what it reads.
* ``leases.py`` is `state.ports.Leases`; ``wakeups.py`` hears what other replicas commit.
* ``server_secrets.py`` keeps the server's own keys, sealed; ``vault.py`` a tailnet's secrets for the
  outside.
* ``backup.py`` moves a whole database into an ``archive.py`` and back.

What must hold:

* One batch is one transaction, and it begins with compare-and-set of the tailnet's revision:
  whoever was second writes nothing.
* What was acknowledged survives kill -9 and loss of power.
* The tailnet is part of every primary key, so no statement can touch two of them.
* Nothing depends on one database: no upsert, no RETURNING, no dialect's own types. PostgreSQL's
  clock and NOTIFY are used where several processes share it; SQLite has one and needs neither.
* No error that leaves this package holds SQL, a parameter or a value of a row.

It does not decide anything: records come in as decided, rows go out as stored. No reader of a
map comes here; reads are for the start, for catching up and for history.
"""
