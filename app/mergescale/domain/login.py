"""Pending interactive logins: a machine waits, a person approves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

from mergescale.kernel.ids import LoginId, NodeId
from mergescale.kernel.keys import MachineKey, NodeKey


class LoginState(StrEnum):
    """Where a login stands; only `PENDING` can still become another."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


#: What is told of what waits for a person.
Standing = Literal["pending", "approved", "rejected", "expired"]


def standing(state: LoginState, expires: datetime, now: datetime) -> Standing:
    """Return where it stands at a time; what nobody decided until it expires has expired."""
    match state:
        case LoginState.PENDING:
            return "pending" if now < expires else "expired"
        case LoginState.APPROVED:
            return "approved"
        case LoginState.REJECTED:
            return "rejected"


@dataclass(frozen=True, slots=True)
class PendingLogin:
    """One login in progress. Stored, so that it survives a restart of the server.

    Attributes:
        id: unguessable; the last part of the AuthURL.
        machine_key: who asked; a follow-up under another machine key is not answered.
        node_key: the key the machine wants to use.
        old_node_key: the key it had before, zero for none (tailcfg.RegisterRequest.OldNodeKey).
        hostinfo: what it said about itself, canonical JSON.
        expires: when the login is forgotten; completed ones stay answerable until then.
        node: the node it became, once approved.
    """

    id: LoginId
    machine_key: MachineKey
    node_key: NodeKey
    old_node_key: NodeKey
    hostinfo: bytes
    ephemeral: bool
    capability_version: int
    created: datetime
    expires: datetime
    state: LoginState = LoginState.PENDING
    node: NodeId | None = None
