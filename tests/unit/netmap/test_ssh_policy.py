"""tailcfg.SSHPolicy, whole and in deltas."""

from __future__ import annotations

import json
from typing import Any

from mergescale.domain.change import Change
from mergescale.domain.declaration import Declaration
from mergescale.domain.record import Put
from mergescale.domain.snapshot import Snapshot
from mergescale.netmap.encoder import Encoder
from mergescale.wire.mapframe import Compression
from support.clock import START
from support.policies import policy
from support.ssh import entry, ssh_text
from support.worlds import deployment, named, node, step, world

NODES = "ana@example.com: laptop; tag:web: w1; tag:rec: r1"
SERVER = "https://control.example.com"
FORWARDING = {
    "allowAgentForwarding": True,
    "allowLocalPortForwarding": True,
    "allowRemotePortForwarding": True,
}
ANA = "ana@example.com"


def under(*entries: dict[str, Any], **more: Any) -> Snapshot:
    return world(NODES, declaration=Declaration(policy(ssh_text(*entries, **more))))


def whole(snapshot: Snapshot, name: str, encoder: Encoder | None = None) -> dict[str, Any]:
    encoder = encoder or Encoder(server_url=SERVER)
    viewer = named(snapshot, name).id
    frame = encoder.full(snapshot, viewer, Compression.NONE, START)
    found: dict[str, Any] = json.loads(frame[4:])
    return found


def delta(before: Snapshot, after: Snapshot, name: str) -> dict[str, Any]:
    change = Change(nodes=frozenset(after.nodes), access=True, tailnet=True)
    viewer = named(after, name).id
    frame = Encoder(server_url=SERVER).delta(before, after, change, viewer, Compression.NONE)
    found: dict[str, Any] = {} if frame is None else json.loads(frame[4:])
    return found


def principals(snapshot: Snapshot, name: str) -> list[dict[str, str]]:
    one = named(snapshot, name)
    return [{"nodeIP": str(one.ipv4)}, {"nodeIP": str(one.ipv6)}]


def test_a_rule_on_the_wire() -> None:
    """Principals by address, the mapping, an action that forwards, patterns of variables."""
    snapshot = under(entry(ANA, "tag:web", "root autogroup:nonroot", acceptEnv=["LC_*"]))
    assert whole(snapshot, "w1")["SSHPolicy"] == {
        "rules": [
            {
                "principals": principals(snapshot, "laptop"),
                "sshUsers": {"*": "=", "root": "root"},
                "action": {"accept": True, **FORWARDING},
                "acceptEnv": ["LC_*"],
            }
        ]
    }
    assert whole(snapshot, "laptop")["SSHPolicy"] == {"rules": []}


def test_a_check_asks_this_server() -> None:
    """The action holds the attempt and names the URL, which the client completes."""
    snapshot = under(entry(ANA, "tag:web", "root", action="check"))
    (rule,) = whole(snapshot, "w1")["SSHPolicy"]["rules"]
    assert rule["action"] == {
        "holdAndDelegate": f"{SERVER}/machine/ssh/action/$SRC_NODE_ID/to/$DST_NODE_ID"
        "?local_user=$LOCAL_USER"
    }


def test_recorders_are_named_with_their_port() -> None:
    """IPv6 in brackets; only where recording is enforced does its failure end the session."""
    snapshot = under(
        entry(ANA, "tag:web", "root", recorder=["tag:rec"]),
        entry(ANA, "tag:web", "u", recorder=["tag:rec"], enforceRecorder=True, action="check"),
    )
    enforced, asked = (rule["action"] for rule in whole(snapshot, "w1")["SSHPolicy"]["rules"])
    one = named(snapshot, "r1")
    recorders = [f"{one.ipv4}:80", f"[{one.ipv6}]:80"]
    assert asked == {"accept": True, **FORWARDING, "recorders": recorders}
    assert enforced["recorders"] == recorders
    assert enforced["onRecordingFailure"] == {
        "RejectSessionWithMessage": "sessions here are recorded, and no recorder can be reached",
        "TerminateSessionWithMessage": "the recording of this session failed",
    }


def test_without_a_recorder_an_enforced_recording_refuses() -> None:
    """A client records nothing when it is given no recorder, so it must not let anybody in."""
    for action in ("accept", "check"):
        acls = [{"action": "accept", "src": [ANA], "dst": ["tag:web:22"]}]
        rule = entry(ANA, "tag:web", "root", recorder=["tag:rec"], enforceRecorder=True)
        snapshot = under({**rule, "action": action}, acls=acls)
        (told,) = whole(snapshot, "w1")["SSHPolicy"]["rules"]
        assert told["action"] == {
            "message": "sessions here are recorded, and no recorder can be reached",
            "reject": True,
        }


def test_a_delta_replaces_the_whole_policy() -> None:
    """Sent to those whose rules differ and to nobody else; no rules take all access away."""
    before = under(entry(ANA, "tag:web", "root"))
    other = policy(ssh_text(entry(ANA, "tag:web", "root"), entry(ANA, "tag:rec", "root")))
    none = policy(ssh_text())
    after = step(before, [Put(deployment(Declaration(other)))])
    assert "SSHPolicy" not in delta(before, after, "w1")
    assert delta(before, after, "r1") == {"SSHPolicy": whole(after, "r1")["SSHPolicy"]}
    assert delta(after, step(after, [Put(deployment(Declaration(none)))]), "w1") == {
        "SSHPolicy": {"rules": []}
    }


def test_a_new_source_is_told_with_its_node() -> None:
    """The destination hears of the peer and of its right to log in at once."""
    before = under(entry("tag:rec", "tag:web", "root"))
    after = step(before, [Put(node(9, "r2", user=None, tags=("tag:rec",)))])
    found = delta(before, after, "w1")
    assert [peer["ID"] for peer in found["PeersChanged"]] == [9]
    (rule,) = found["SSHPolicy"]["rules"]
    assert {one["nodeIP"] for one in rule["principals"]} == {
        one["nodeIP"] for name in ("r1", "r2") for one in principals(after, name)
    }


def test_long_rules_are_shared_between_messages() -> None:
    """The bytes are the same as from an encoder that remembers nothing, compressed or not."""
    many = "ana@example.com: " + ", ".join(f"n{i}" for i in range(80))
    text = ssh_text(entry(ANA, "tag:web", "root"), entry(ANA, "tag:web", "ubuntu"))
    snapshot = world(f"{many}; tag:web: w1, w2", declaration=Declaration(policy(text)))
    remembering = Encoder(server_url=SERVER)
    for name in ("w1", "w2", "w1"):
        assert whole(snapshot, name, remembering) == whole(snapshot, name)
