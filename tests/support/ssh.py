"""SSH policies for tests: from entries to what a node is told, in one call."""

from __future__ import annotations

import json
from typing import Any

from mergescale.domain.access import SshRule
from mergescale.domain.snapshot import Snapshot
from support.policies import slot_of

#: Everybody reaches everything, so that only the section ``ssh`` decides.
OPEN: dict[str, Any] = {
    "tagOwners": {"tag:web": [], "tag:db": [], "tag:rec": []},
    "groups": {"group:eng": ["ana@example.com", "ben@example.com"], "group:none": []},
    "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}],
}


def ssh_text(*entries: dict[str, Any], **more: Any) -> str:
    """Return a policy with these entries of ``ssh``; other sections replace those of `OPEN`."""
    return json.dumps({**OPEN, "ssh": entries, **more})


def entry(src: str, dst: str, users: str, **more: Any) -> dict[str, Any]:
    """Return an entry; each of the texts is a list of words."""
    found = {"action": "accept", "src": src.split(), "dst": dst.split(), "users": users.split()}
    return {**found, **more}


def ssh_rules(snapshot: Snapshot, name: str) -> tuple[SshRule, ...]:
    """Return the SSH rules of the node with this label."""
    return snapshot.access.ssh_rules(slot_of(snapshot, name))


def told(snapshot: Snapshot, name: str) -> list[tuple[str, dict[str, str]]]:
    """Return (names of the sources, logins) of each rule of a node, in order."""
    return [(whose(snapshot, rule), dict(rule.logins)) for rule in ssh_rules(snapshot, name)]


def whose(snapshot: Snapshot, rule: SshRule) -> str:
    """Return the labels of the nodes that a rule names; each must be named by both addresses."""
    listed = [
        node
        for node in snapshot.nodes.values()
        if {str(node.ipv4), str(node.ipv6)} <= set(rule.principals)
    ]
    assert len(rule.principals) == 2 * len(listed)
    return " ".join(sorted(node.name for node in listed))
