"""A model of the Go client's map handling: what a client holds after a sequence of messages.

Written from spec 4.5 and 4.6 and controlclient's map.go, as an independent reading of the rules:
a delta is right when the fold of everything received equals the fold of a fresh full map.
"""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

Json = dict[str, Any]

#: Members of tailcfg.Node that Go turns into a patch, if nothing else differs.
_PATCHABLE = (
    "Key",
    "KeyExpiry",
    "DiscoKey",
    "Endpoints",
    "HomeDERP",
    "Cap",
    "CapMap",
    "Online",
    "LastSeen",
)
_NEVER = "0001-01-01T00:00:00Z"


class Client:
    """What one map stream has accumulated; `receive` takes the JSON of each message."""

    def __init__(self) -> None:
        self.node: Json | None = None
        self.peers: dict[int, Json] = {}
        self.profiles: dict[int, Json] = {}
        self.chunks: dict[str, Any] = {}
        self.filtered = False
        self.whole: Json = {}

    def receive(self, text: bytes) -> None:
        message = json.loads(text)
        if message == {"KeepAlive": True}:
            return
        assert message, "an empty message was sent"
        assert self.node is not None or "Node" in message, "the first message lacks Node"
        self._peers(message)
        self.node = message.get("Node", self.node)
        self.profiles.update({user["ID"]: user for user in message.get("UserProfiles", [])})
        self._filters(message)
        for name in ("DERPMap", "DNSConfig", "CollectServices", "SSHPolicy"):
            if name in message:
                self.whole[name] = message[name]
        if message.get("Domain"):
            self.whole["Domain"] = message["Domain"]

    def _peers(self, message: Json) -> None:
        changed = [_upgraded(peer) for peer in message.get("PeersChanged", [])]
        patches = list(message.get("PeersChangedPatch", []))
        # WIRE(rust): patches are collected by node, so a second one would replace the first.
        named = [patch["NodeID"] for patch in patches]
        assert len(named) == len(set(named)), "two patches for one peer"
        if message.get("Peers"):
            deltas = {"PeersRemoved", "PeersChanged", "PeersChangedPatch", "OnlineChange"}
            assert not deltas & message.keys(), "a delta beside Peers is ignored"
            self.peers = {peer["ID"]: _upgraded(peer) for peer in message["Peers"]}
            return
        whole = []
        for peer in changed:
            was = self.peers.get(peer["ID"])
            patch = None if was is None else _as_patch(was, peer)
            if patch is None:
                whole.append(peer)
            else:
                patches.append(patch)
        patches = [patch for patch in patches if self._accepts(patch)]
        for node in message.get("PeersRemoved", []):
            self.peers.pop(node, None)
        self.peers.update({peer["ID"]: peer for peer in whole})
        for text, online in message.get("OnlineChange", {}).items():
            if int(text) in self.peers:
                self.peers[int(text)]["Online"] = online
        for patch in patches:
            self._patch(patch)

    def _accepts(self, patch: Json) -> bool:
        """Apply the rule of spec 4.6 about disco keys of offline nodes."""
        if not {"DiscoKey", "Online", "LastSeen"} <= patch.keys() or patch["Online"]:
            return True
        known = self.peers.get(patch["NodeID"], {}).get("LastSeen")
        return known is None or patch["LastSeen"] > known

    def _patch(self, patch: Json) -> None:
        peer = self.peers.get(patch["NodeID"])
        if peer is None:
            return
        for name, member in (("DERPRegion", "HomeDERP"), ("Cap", "Cap")):
            if patch.get(name):
                peer[member] = patch[name]
        for name in ("Endpoints", "Key", "DiscoKey", "Online", "LastSeen", "KeyExpiry", "CapMap"):
            if patch.get(name) is not None:
                peer[name] = patch[name]

    def _filters(self, message: Json) -> None:
        if message.get("PacketFilter") is not None:
            self.filtered = True
            self.chunks["base"] = message["PacketFilter"]
        chunks = message.get("PacketFilters")
        if chunks is None:
            return
        self.filtered = True
        if "*" in chunks and chunks["*"] is None:
            self.chunks = {}
        for name, rules in chunks.items():
            if name == "*":
                continue
            if rules is None:
                self.chunks.pop(name, None)
            else:
                self.chunks[name] = rules

    def view(self) -> Json:
        """Return everything but profiles in a form that compares.

        A patch cannot take LastSeen back, and it means nothing while a peer is online (tailcfg),
        so it is left out then.
        """
        assert self.filtered, "no packet filter was ever sent"
        return {
            "Node": self.node,
            "Peers": {node: _plain(peer) for node, peer in sorted(self.peers.items())},
            "Filter": self.chunks,
            **self.whole,
        }


def _upgraded(peer: Json) -> Json:
    """Take the legacy home region as Go does: HomeDERP wins."""
    peer = deepcopy(peer)
    legacy = peer.pop("DERP", "")
    if legacy and not peer.get("HomeDERP"):
        peer["HomeDERP"] = int(legacy.rpartition(":")[2])
    return peer


def _as_patch(was: Json, peer: Json) -> Json | None:
    """Do what controlclient's peerChangeDiff does, its losses included; None if not possible."""
    rest = [{k: v for k, v in side.items() if k not in _PATCHABLE} for side in (was, peer)]
    if rest[0] != rest[1]:
        return None
    patch: Json = {"NodeID": peer["ID"]}
    for name, zero in (("Key", ""), ("KeyExpiry", _NEVER), ("DiscoKey", "discokey:0")):
        if was.get(name, zero) != peer.get(name, zero):
            patch[name] = peer.get(name, zero)
    if was.get("Endpoints", []) != peer.get("Endpoints", []):
        patch["Endpoints"] = peer.get("Endpoints")
    for name, field in (("HomeDERP", "DERPRegion"), ("Cap", "Cap")):
        if was.get(name, 0) != peer.get(name, 0):
            patch[field] = peer.get(name, 0)
    for name in ("Online", "LastSeen"):
        if name in was and name in peer and was[name] != peer[name]:
            patch[name] = peer[name]
    return patch


def _plain(peer: Json) -> Json:
    zero = {"KeyExpiry": _NEVER, "DiscoKey": "discokey:0", "Endpoints": [], "HomeDERP": 0, "Cap": 0}
    plain = {name: value for name, value in peer.items() if value != zero.get(name)}
    if plain.get("Online"):
        plain.pop("LastSeen", None)
    return plain
