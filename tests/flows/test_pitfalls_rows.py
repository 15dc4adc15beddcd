"""One node with impossible values must not break the maps of the others (spec 9.3, pitfall 47).

Decisions never make such rows; an older version, a restored backup or a bug of tomorrow may.
What the database itself refuses is not here: text that is not UTF-8, an owner who does not exist.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from mergescale.domain.record import Put
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.keys import DiscoKey, MachineKey
from mergescale.netmap.encoder import Encoder
from mergescale.wire.mapframe import LENGTH_BYTES, Compression
from support.clock import START
from support.control_world import people
from support.tailnet_story import REGION, happen
from support.worlds import named

POISON: dict[str, list[Any]] = {
    "name": ["", "x" * 300, 'q"\\\n', "пример", "a.b"],
    "stable_id": ["", 'q"\\'],
    "hostinfo": [b"", b"{", b"[]", b"\xff\xfe", b'{"Hostname":7}', b'{"Services":"x"}', b"null"],
    "endpoints": [("garbage",), ('q"\\',), ("",)],
    "tags": [("tag:ж",), ('tag:"',)],
    "home_derp": [-5, 70_000],
    "capability_version": [-1, 10**9],
    "key_expiry": [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)],
    "last_seen": [datetime.min.replace(tzinfo=UTC)],
    "created": [datetime.min.replace(tzinfo=UTC)],
    "machine_key": [MachineKey.zero()],
    "disco_key": [DiscoKey.zero()],
}


def read(snapshot: Snapshot, viewer: str) -> dict[str, Any]:
    frame = Encoder(REGION).full(snapshot, named(snapshot, viewer).id, Compression.NONE, START)
    message: dict[str, Any] = json.loads(frame[LENGTH_BYTES:])
    return message


@pytest.mark.parametrize(
    ("column", "value"),
    [(column, value) for column, values in POISON.items() for value in values],
    ids=lambda value: repr(value)[:30] if not isinstance(value, str) else ascii(value)[:20],
)
def test_an_impossible_row_is_its_own_nodes_problem(column: str, value: Any) -> None:
    """Whole maps and deltas for the others go on, and say of everybody else what they said."""
    before = people("alice@example.com: laptop, phone, poisoned")
    row = replace(named(before, "poisoned"), **{column: value})
    after, change = happen(before, [Put(row)])
    others = [peer for peer in read(after, "laptop")["Peers"] if peer["ID"] != row.id]
    assert others == [peer for peer in read(before, "laptop")["Peers"] if peer["ID"] != row.id]
    viewer = named(after, "laptop").id
    frame = Encoder(REGION).delta(before, after, change, viewer, Compression.NONE)
    step = {} if frame is None else json.loads(frame[LENGTH_BYTES:])
    told = [*step.get("PeersChanged", ()), *step.get("PeersChangedPatch", ())]
    assert {node.get("ID", node.get("NodeID")) for node in told} <= {row.id}
