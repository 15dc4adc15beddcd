"""Machines that register: what a client would send, in the words of ``state.registration``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

import msgspec

from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import AuthKeyId, LoginId
from mergescale.kernel.keys import MachineKey, NodeKey
from mergescale.state import authkeys
from mergescale.state.derive import derive
from mergescale.state.outcome import Decision
from mergescale.state.registration import Fresh, Request, ShownKey
from mergescale.wire.tailcfg.hostinfo import Hostinfo, decode_hostinfo
from support.worlds import key_bytes

T = TypeVar("T")
CAPABILITY_VERSION = 130


def hostinfo(hostname: str = "", **members: object) -> Hostinfo:
    """Return a Hostinfo as the wire would decode it; members by Go's names."""
    named = {"Hostname": hostname, "OS": "linux"} if hostname else {}
    return decode_hostinfo(msgspec.json.encode({**named, **members}))


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine by its name, the same keys every time."""

    name: str

    @property
    def key(self) -> MachineKey:
        return MachineKey(key_bytes(f"machine {self.name}"))

    def node_key(self, number: int = 0) -> NodeKey:
        """Return the first node key (as ``worlds`` has it), or a later one."""
        suffix = f" {number}" if number else ""
        return NodeKey(key_bytes(f"node {self.name}{suffix}"))

    def asks(
        self,
        *,
        number: int = 0,
        auth: str | None = None,
        old: int | None = None,
        hostinfo: Hostinfo | None = None,
        expiry: datetime | None = None,
        followup: LoginId | None = None,
        ephemeral: bool = False,
    ) -> Request:
        """Return a register request.

        `number` and `old` choose node keys, `auth` is the id of a key that `with_key` made.
        """
        seed = hashlib.sha256(f"{self.name} {number} {followup}".encode()).hexdigest()
        return Request(
            machine_key=self.key,
            node_key=self.node_key(number),
            hostinfo=hostinfo_of(self.name) if hostinfo is None else hostinfo,
            fresh=Fresh(f"n{seed[:16]}CNTRL", LoginId(seed[16:40])),
            capability_version=CAPABILITY_VERSION,
            old_node_key=NodeKey.zero() if old is None else self.node_key(old),
            auth=None if auth is None else shown(auth),
            expiry=expiry,
            followup=followup,
            ephemeral=ephemeral,
        )


def hostinfo_of(name: str) -> Hostinfo:
    """Return what a machine of this name says of itself."""
    return hostinfo(name)


def shown(auth: str) -> ShownKey:
    """Return the key with this id, with the right secret."""
    return ShownKey(AuthKeyId(auth), key_bytes(f"secret {auth}"))


def wrong_secret(request: Request) -> Request:
    """Return the request with another secret for the same key id."""
    assert request.auth is not None
    return replace(request, auth=ShownKey(request.auth.id, key_bytes("wrong")))


def with_key(before: Snapshot, auth: str, now: datetime, **wanted: object) -> Snapshot:
    """Return the world with a pre-auth key of this id; for alice unless told otherwise."""
    if "tags" not in wanted:
        wanted.setdefault("user", "alice@example.com")
    decision = authkeys.create(
        AuthKeyId(auth),
        key_bytes(f"secret {auth}"),
        authkeys.Wanted(**wanted),  # type: ignore[arg-type]
    )
    return decided(before, decision, now)[0]


def decided(before: Snapshot, decision: Decision[T], now: datetime) -> tuple[Snapshot, T]:
    """Carry a decision out as the engine does; return the snapshot after it, and its answer."""
    outcome = decision(before, now)
    after, _ = derive(before, outcome.snapshot, outcome.change)
    return after, outcome.answer
