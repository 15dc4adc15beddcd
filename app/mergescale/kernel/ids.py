"""Identifiers as types, so that a node's id is never passed for a user's.

Node and user ids are JSON integers on the wire: > 0, at most 2^53 - 1, never reused
(tailcfg.NodeID, tailcfg.UserID).
"""

from __future__ import annotations

from typing import NewType

#: Name of a tailnet, e.g. ``default``; key of every row and of every in-memory structure.
TailnetName = NewType("TailnetName", str)
#: tailcfg.NodeID: integer, unique in the tailnet, never reused.
NodeId = NewType("NodeId", int)
#: tailcfg.UserID: integer, unique in the tailnet, never reused.
UserId = NewType("UserId", int)
#: Public half of a pre-auth key: short, random, shown in lists.
AuthKeyId = NewType("AuthKeyId", str)
#: Public half of an API token: short, random, shown in lists.
ApiKeyId = NewType("ApiKeyId", str)
#: Unguessable id of a pending interactive login; part of its AuthURL.
LoginId = NewType("LoginId", str)
#: Journal number of a tailnet; grows by one per committed batch.
Revision = NewType("Revision", int)
#: Dense index of a node in one process; a set of nodes is an int with these bits.
Slot = NewType("Slot", int)
#: Identity of one server process.
ReplicaId = NewType("ReplicaId", str)

#: LIMIT: JSON integers that every client reads exactly (ECMA-262 Number.MAX_SAFE_INTEGER).
MAX_ID = 2**53 - 1
