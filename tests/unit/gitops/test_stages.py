"""The stages that a commit goes through, without a repository."""

from __future__ import annotations

import json
from typing import Any

from mergescale.domain.declaration import Declaration
from mergescale.gitops.git.messages import Found
from mergescale.gitops.stages import prepare
from support.policies import policy, slot_of
from support.worlds import world

WEB = {"action": "accept", "src": ["ana@example.com"], "dst": ["tag:web:80"]}
BACK = {"action": "accept", "src": ["tag:web"], "dst": ["ana@example.com:22"]}


def text(*acls: dict[str, Any]) -> str:
    return json.dumps({"tagOwners": {"tag:web": []}, "acls": acls})


def test_a_commit_takes_over_the_filters_it_leaves_alone() -> None:
    """The very objects that are in force, so that nobody compares thousands of addresses."""
    before = world(
        "ana@example.com: laptop; tag:web: web",
        declaration=Declaration(policy(text(WEB, BACK))),
    )
    filters = {name: before.access.chunks(slot_of(before, name)) for name in ("laptop", "web")}
    files = {"policy.hujson": text(WEB, {**BACK, "proto": "tcp"})}
    found = Found("c" * 40, "", "", 0, descends=True, files=files, faults=[])

    after = prepare(found, before).compiled

    assert after.chunks(slot_of(before, "web")) is filters["web"]
    assert after.chunks(slot_of(before, "laptop")) != filters["laptop"]
