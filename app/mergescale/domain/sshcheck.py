"""Logins over SSH that a person has to approve: asked for, and remembered once approved."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mergescale.domain.login import LoginState
from mergescale.kernel.ids import LoginId, NodeId, UserId


@dataclass(frozen=True, slots=True)
class SshCheck:
    """One check. Stored, so that what a person approved holds at every replica and after a restart.

    It is about this source, target and local user only, and no change of policy takes it back; how
    long it counts is the policy's, each time that it is looked at.

    Attributes:
        id: unguessable; the last part of the address of its page.
        source: the node that asks to be let in.
        user: who owned it; another owner has to be approved anew.
        target: the node that it asks at.
        local_user: as whom, there.
        expires: when it is forgotten.
        decided: when it was approved or rejected.
    """

    id: LoginId
    source: NodeId
    user: UserId
    target: NodeId
    local_user: str
    created: datetime
    expires: datetime
    state: LoginState = LoginState.PENDING
    decided: datetime | None = None
