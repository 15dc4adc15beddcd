"""The frozen nouns, the snapshot they make up, and what can change in it.

What must hold:

* Everything here is a frozen, slotted dataclass; a change makes a new value and shares the rest.
* `Snapshot.apply` is the only way from one snapshot to the next. The engine uses it on what a
  decision wrote, a replica on what it read from the journal: one mechanism, so both end equal.
* Tailnet is a key of everything: a snapshot holds exactly one tailnet and nothing points out of it.

Records (``record.py``) are what the store keeps; `Access` is what a policy, compiled elsewhere,
answers about the nodes of a snapshot. No I/O, no clock, no randomness.
"""
