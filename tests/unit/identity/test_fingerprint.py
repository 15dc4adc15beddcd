from __future__ import annotations

import re

from mergescale.identity.fingerprint import fingerprint
from mergescale.kernel.keys import MachineKey


def test_fingerprint_is_short_and_tells_machines_apart() -> None:
    """Four groups of four digits, the same for a key every time, another for each key."""
    prints = [fingerprint(MachineKey(bytes([n]) * 32)) for n in range(200)]
    assert len(set(prints)) == 200
    assert all(re.fullmatch("[a-z2-7]{4}(-[a-z2-7]{4}){3}", text) for text in prints)
    # Written down, since operators compare it across versions.
    assert prints[1] == "vgju-fiuo-6wql-yp55"
