"""The one property of netmap and fan-out (architecture 5.6), over random histories."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergescale.domain.change import Change
from mergescale.domain.declaration import Declaration, Policy
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import TAGGED_USER_ID
from mergescale.fanout.mailbox import Mailbox, Step
from mergescale.kernel.ids import NodeId
from mergescale.netmap import blocks, delta, filters, parts
from mergescale.netmap.audience import audience
from mergescale.netmap.encoder import Encoder
from mergescale.wire.mapframe import Compression, Decoder
from support import fold
from support.clock import START
from support.policies import policy
from support.privacy import check_texts, seen
from support.reach import declare
from support.tailnet_story import (
    EVENTS,
    REGION,
    TWINS,
    Dice,
    committing,
    happen,
    renumbered,
)
from support.worlds import world

CAST = "alice@example.com: laptop, phone; bob@example.com: desk; tag:web: web1; tag:db+tag:web: db1"


_NAMES = """
    "groups": {"group:eng": ["alice@example.com", "10@example.com"]},
    "tagOwners": {"tag:web": [], "tag:db": []},
    "hosts": {"net1": "10.1.0.0/16"},
"""
COMPILED = tuple(
    policy("{" + _NAMES + rules + "}")
    for rules in (
        '"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]',
        '"acls": []',
        """"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}], "nodeAttrs": [
            {"target": ["group:eng", "100.64.0.3"], "attr": ["drive:share", "funnel"]},
            {"target": ["tag:db", "bob@example.com"], "attr": ["disable-ipv4"],
             "app": {"example.com/cap": [{"a": 1}]}}]""",
        """"acls": [
            {"action": "accept", "src": ["group:eng"], "dst": ["tag:web:80,443", "net1:*"]},
            {"action": "accept", "src": ["tag:db"], "dst": ["*:22"]}]""",
        """"grants": [
            {"src": ["bob@example.com", "tag:web"], "dst": ["10.2.0.0/16", "autogroup:internet"], "ip": ["*"]},
            {"src": ["*"], "dst": ["tag:db"], "ip": ["tcp:5432"]}]""",
        """"acls": [
            {"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self:*"]},
            {"action": "accept", "src": ["*"], "dst": ["autogroup:internet:*", "fd00::/64:*"]}]""",
        """"acls": [
            {"action": "accept", "src": ["autogroup:tagged"], "dst": ["autogroup:member:*"]},
            {"action": "accept", "src": ["10.1.0.0/16"], "dst": ["tag:web:*"]},
            {"action": "accept", "src": ["100.64.0.1"], "dst": ["100.64.0.3:*"]}]""",
        """"acls": [
            {"action": "accept", "src": ["group:eng", "tag:db"], "dst": ["tag:web:22", "autogroup:member:*"]}],
        "ssh": [
            {"action": "accept", "src": ["group:eng", "bob@example.com"], "dst": ["tag:web"],
                "users": ["root"]},
            {"action": "check", "src": ["autogroup:member"], "dst": ["autogroup:self", "tag:db"],
                "users": ["localpart:*@example.com"], "recorder": ["tag:db"], "enforceRecorder": true},
            {"action": "accept", "src": ["tag:db"], "dst": ["autogroup:tagged"], "users": ["ubuntu"]}]""",
        """"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}],
        "ssh": [{"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self", "tag:web"],
                "users": ["localpart:*@example.com", "autogroup:nonroot"]}]""",
    )
)

#: Addresses that these policies spell out.
WRITTEN = {"100.64.0.1", "100.64.0.3"}


@contextmanager
def small_blocks() -> Iterator[None]:
    """Let five nodes take the paths that otherwise need thousands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_SLOTS", 2)
        patch.setattr(blocks, "_MASK", 3)
        patch.setattr(blocks, "_FEW", 1)
        patch.setattr(delta, "_FEW_PEERS", 1)
        for module in (parts, filters):
            patch.setattr(module, "SHARE_BYTES", 1)
        yield


class Reader:
    """A client: its mailbox, what it accumulated, and every text it ever got."""

    def __init__(self, node: NodeId, snapshot: Snapshot, compression: Compression) -> None:
        self.node = node
        self.mailbox = Mailbox(snapshot)
        self.compression = compression
        self.decoder = Decoder(compression)
        self.held = fold.Client()

    def receive(self, frame: bytes) -> bytes:
        (text,) = self.decoder.feed(frame)
        self.held.receive(text)
        return text

    def connect(self, encoder: Encoder) -> None:
        snapshot = self.mailbox.first()
        self.receive(encoder.full(snapshot, self.node, self.compression, START))

    def read(self, encoder: Encoder) -> bytes | None:
        """Take one step and receive it; `deliver` is the caller's, at once or after more posts."""
        step = self.mailbox.take()
        frame = encoder.delta(step.sent, step.now, step.change, self.node, self.compression)
        if frame is not None:
            check_delta(step, self.node, self.receive(frame))
        return frame


class Tailnet:
    """A snapshot, its clients, and an encoder that remembers all of the history."""

    def __init__(self, policies: Sequence[Policy]) -> None:
        self.now = world(CAST, declaration=Declaration(policies[0]))
        self.encoder = Encoder(REGION)
        self.readers: dict[NodeId, Reader] = {}

    def connect(self, node: NodeId, compression: Compression) -> None:
        reader = self.readers[node] = Reader(node, self.now, compression)
        reader.connect(self.encoder)
        reader.mailbox.delivered()

    def publish(self, after: Snapshot, change: Change) -> None:
        reached = audience(self.now, after, change)
        self.now = after
        for node, reader in list(self.readers.items()):
            slot = after.slots.of.get(node)
            if slot is None:
                del self.readers[node]
            else:
                reader.mailbox.post(after, change, concerned=bool(reached >> slot & 1))

    def settle(self) -> None:
        for reader in self.readers.values():
            reader.mailbox.delivered()
            while reader.mailbox.waiting:
                reader.read(self.encoder)
                reader.mailbox.delivered()

    def check(self) -> None:
        """Compare what everybody holds with a full map from an encoder that remembers nothing."""
        fresh = Encoder(REGION)
        for reader in self.readers.values():
            now = fold.Client()
            frame = fresh.full(self.now, reader.node, Compression.NONE, START)
            now.receive(frame[4:])
            assert reader.held.view() == now.view()
            held = {user: reader.held.profiles.get(user) for user in now.profiles}
            assert held == now.profiles
            check_privacy(self.now, reader.node, frame[4:])


def check_delta(step: Step, viewer: NodeId, text: bytes) -> None:
    """Assert that a delta names nobody whom its receiver did not see or does not see now."""
    message = json.loads(text)
    before, after = (seen(snapshot, viewer) for snapshot in (step.sent, step.now))
    assert set(message.get("PeersRemoved", [])) <= before - after
    assert {peer["ID"] for peer in message.get("PeersChanged", [])} <= after
    assert {int(text) for text in message.get("OnlineChange", {})} <= before & after
    assert {patch["NodeID"] for patch in message.get("PeersChangedPatch", [])} <= before & after
    people = {step.now.nodes[node].user or TAGGED_USER_ID for node in after | {viewer}}
    assert {profile["ID"] for profile in message.get("UserProfiles", [])} <= people
    assert not {"Peers", "ControlTime", "Debug", "CollectServices"} & message.keys()
    check_texts(step.now, viewer, text, written=WRITTEN)


def check_privacy(snapshot: Snapshot, viewer: NodeId, text: bytes) -> None:
    """Assert that a full map names visible peers and their users, and nothing of anybody else."""
    visible = seen(snapshot, viewer)
    message = json.loads(text)
    assert {peer["ID"] for peer in message["Peers"]} == visible
    people = {snapshot.nodes[node].user or TAGGED_USER_ID for node in {*visible, viewer}}
    assert {profile["ID"] for profile in message["UserProfiles"]} == people
    check_texts(snapshot, viewer, text, written=WRITTEN)


def live(policies: Sequence[Policy], dice: Dice, *, small: bool) -> None:
    """Live through one history with clients of all speeds, and check them at its end."""
    events = (*EVENTS, committing(policies))
    with small_blocks() if small else nullcontext():
        tailnet = Tailnet(policies)
        for node in tailnet.now.nodes:
            tailnet.connect(node, dice.one(tuple(Compression)))
        for _ in range(1 + dice.roll(12)):
            for _ in range(1 + dice.roll(2)):
                if dice.roll(12) == 11:
                    tailnet.publish(*renumbered(tailnet.now, dice))
                else:
                    event = dice.one(events)
                    tailnet.publish(*happen(tailnet.now, event(tailnet.now, dice)))
            for reader in tailnet.readers.values():
                match dice.roll(3):
                    case 0 if reader.mailbox.waiting:
                        reader.read(tailnet.encoder)
                    case 1:
                        reader.mailbox.delivered()
                    case _:
                        pass
            newcomers = [node for node in tailnet.now.nodes if node not in tailnet.readers]
            if newcomers:
                tailnet.connect(dice.one(newcomers), dice.one(tuple(Compression)))
        tailnet.settle()
        tailnet.check()


@given(seed=st.integers(0, 2**64 - 1), small=st.booleans())
@settings(max_examples=250, deadline=None)
def test_folded_deltas_equal_the_full_map(seed: int, small: bool) -> None:
    """Whatever happens and however slowly a client reads, what it holds is its full map."""
    live(TWINS, Dice.seeded(seed), small=small)


@given(seed=st.integers(0, 2**64 - 1), small=st.booleans())
@settings(max_examples=150, deadline=None)
def test_folded_deltas_equal_the_full_map_under_compiled_policies(seed: int, small: bool) -> None:
    """The same with the policy compiler, which resolves only what a change names."""
    live(COMPILED, Dice.seeded(seed), small=small)


@given(data=st.data(), small=st.booleans())
@settings(max_examples=30, deadline=None)
def test_the_same_in_a_form_that_shrinks(data: st.DataObject, small: bool) -> None:
    """Fewer histories, but a failing one comes down to the few events that matter."""
    live(TWINS, Dice(lambda below: data.draw(st.integers(0, below - 1))), small=small)


@given(seed=st.integers(0, 2**64 - 1))
@settings(max_examples=80, deadline=None)
def test_the_audience_misses_nobody_and_silence_means_the_same(seed: int) -> None:
    """Outside the audience no map differs; inside, a client whose map is the same gets nothing."""
    dice, policies = Dice.seeded(seed), COMPILED if seed % 2 else TWINS
    tailnet = Tailnet(policies)
    for _ in range(1 + dice.roll(6)):
        before = tailnet.now
        event = dice.one((*EVENTS, committing(policies)))
        after, change = happen(before, event(before, dice))
        reached, encoder = audience(before, after, change), Encoder(REGION)
        for node in before.nodes.keys() & after.nodes.keys():
            old, new = (told(encoder, snapshot, node) for snapshot in (before, after))
            if not reached >> after.slot(node) & 1:
                assert old == new
            frame = encoder.delta(before, after, change, node, Compression.NONE)
            if old == new:
                assert frame is None
        tailnet.publish(after, change)


def told(encoder: Encoder, snapshot: Snapshot, node: NodeId) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(encoder.full(snapshot, node, Compression.NONE, START)[4:])
    for peer in message["Peers"]:
        if peer["Online"]:
            peer.pop("LastSeen", None)
    message["UserProfiles"].sort(key=lambda profile: profile["ID"])
    message["Peers"].sort(key=lambda peer: peer["ID"])
    return message


def test_a_tailnet_without_a_policy_shows_nobody() -> None:
    """Before the first good commit every node is alone, with a filter that admits nothing."""
    alone = world(CAST)
    message = told(Encoder(REGION), alone, NodeId(1))
    assert (message["Peers"], message["PacketFilters"]) == ([], {"*": None})
    with_rules = told(Encoder(REGION), world(CAST, declaration=declare()), NodeId(1))
    assert with_rules == message
