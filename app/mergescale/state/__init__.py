"""The waist: every cause becomes a decision, and one engine per tailnet carries it out.

A decision is a pure function ``(Snapshot, now) -> Outcome``. One module per noun holds them, and
they read as sentences: ``nodes.rename(node, name)``, ``presence.connected(node, replica)``.

* ``engine.py`` decides, commits, swaps and publishes; ``derive.py`` is what follows from a batch.
* ``registration.py`` and ``logins.py`` are the ways in; ``admission.py`` is what they share.
* ``nodes.py``, ``routes.py``, ``presence.py``, ``users.py``, ``authkeys.py``, ``apikeys.py`` and
  ``policies.py`` hold the decisions of their noun; ``upkeep.py`` is what time does to all of them.
* ``names.py``, ``addresses.py`` and ``hostinfo.py`` answer questions that several decisions ask.
* ``tailnets.py`` knows the engines of this process. ``replica.py`` is this process beside others
  on the same database: what only one of them does, and who is gone. ``follower.py`` keeps up with
  what the others commit.

What must hold:

* Decide, commit, swap, publish, in this order (``engine.py``). If the commit fails nothing was
  swapped and nobody was told.
* A decision sees no clock, no randomness, no I/O: what it needs comes in as arguments, so the
  engine may run it again on a newer snapshot when another replica was first.
* INVARIANT(fenced): a write that rests on a lease carries its number and is refused, inside its
  transaction, once somebody else holds the lease.
* ``ports.py`` says what the outside implements; the SQL is in ``store``.
"""
