"""What the store keeps, and the two things that can happen to it.

A decision returns writes; `Snapshot.apply` turns them into the next snapshot, the store into rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mergescale.domain.apikey import ApiKey
from mergescale.domain.authkey import AuthKey
from mergescale.domain.declaration import Deployment
from mergescale.domain.login import PendingLogin
from mergescale.domain.node import Node
from mergescale.domain.prefixes import Prefix
from mergescale.domain.sshcheck import SshCheck
from mergescale.domain.user import User
from mergescale.kernel.ids import ApiKeyId, AuthKeyId, LoginId, NodeId, ReplicaId, Revision, UserId


@dataclass(frozen=True, slots=True)
class Counters:
    """The next ids to give out; kept so that the id of a deleted thing is never used again."""

    next_node: NodeId = NodeId(1)
    next_user: UserId = UserId(1)


@dataclass(frozen=True, slots=True)
class Presence:
    """A node has at least one open map stream at this replica."""

    node: NodeId
    replica: ReplicaId
    since: datetime


@dataclass(frozen=True, slots=True)
class Primary:
    """A subnet route is carried by this router.

    Follows from nodes and presence, but also from what was before, which nobody could work out
    again; so it is stored. Only ``state.derive`` decides it.
    """

    prefix: Prefix
    node: NodeId


@dataclass(frozen=True, slots=True)
class Hold:
    """Commits of the branch are not put in force.

    Attributes:
        reason: why, in an operator's words.
        by: the operator.
        until: when it ends by itself; None for when somebody ends it.
        pinned: full id of the one commit that may be in force meanwhile; empty for any that is.
    """

    reason: str
    by: str
    since: datetime
    until: datetime | None = None
    pinned: str = ""


@dataclass(frozen=True, slots=True)
class Override:
    """An operator's own policy is in force in place of the repository's, for a while.

    Attributes:
        commit: what stands in for the commit that it is not: `Deployment.commit`.
        reason: why, in the operator's words.
        by: the operator.
        until: when the repository's comes back by itself.
        back: revision of the deployment that comes back; 0 if there was none.
        instead_of: full id of the commit of that deployment; empty if it had none.
    """

    commit: str
    reason: str
    by: str
    since: datetime
    until: datetime
    back: Revision
    instead_of: str = ""


@dataclass(frozen=True, slots=True)
class Delivered:
    """What a replica wrote to the map streams that it holds.

    Attributes:
        commit, applied: of the deployment whose maps these were.
        nodes: whose streams; ids and ranges of them, ``1-4,7``. May name too few, never too many.
    """

    replica: ReplicaId
    commit: str
    applied: datetime
    nodes: str


@dataclass(frozen=True, slots=True)
class Approval:
    """One commit may come into force whatever the gates and freeze windows say.

    Attributes:
        commit: full object id.
        reason: why, in an operator's words.
        by: the operator.
        effect: `plan.model.effect_of` what was approved; empty for whatever it does.
    """

    commit: str
    reason: str
    by: str
    at: datetime
    effect: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """The commit that the compiler was tried on last; see ``state.trials``.

    Attributes:
        commit: full object id.
        begun: how often, without that the end was written.
        reason: why it is not tried any more, one CamelCase word; empty while it may be.
    """

    commit: str
    begun: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Following:
    """What replicas tell each other of the watched repository; one follows it, any is asked.

    Attributes:
        status: how following it stands, as JSON of the API; empty before the first look.
        asked: how many looks were asked for.
        answered: how many of these `status` answers.
        retried: the newest of them that wants a refused commit judged again.
        held: why nothing comes into force by itself; None while it does.
        skipped: full ids of commits that do not come into force by themselves, oldest first.
        accepted: full id of a commit that may although the history was rewritten; empty for none.
        override: what is in force in place of the repository's; None for nothing.
        delivered: how far the deployment in force has come at each replica that said so; one that
            has no others beside it says nothing.
        approvals: of commits that are not in force yet, oldest first.
        trial: of a commit that is being tried, or is in quarantine; None for neither.
    """

    status: str = ""
    asked: int = 0
    answered: int = 0
    held: Hold | None = None
    skipped: tuple[str, ...] = ()
    accepted: str = ""
    override: Override | None = None
    delivered: tuple[Delivered, ...] = ()
    approvals: tuple[Approval, ...] = ()
    trial: Trial | None = None
    retried: int = 0

    @property
    def wishes(self) -> tuple[object, ...]:
        """What operators want; when it moves, the newest commit is judged anew."""
        return self.held, self.skipped, self.accepted, self.approvals, self.override

    def approval(self, commit: str) -> Approval | None:
        """Return the approval of a commit, None for none."""
        return next((one for one in self.approvals if one.commit == commit), None)


Record = (
    Counters
    | User
    | Node
    | AuthKey
    | ApiKey
    | PendingLogin
    | SshCheck
    | Deployment
    | Presence
    | Primary
    | Following
)
#: What identifies a record among those of its class in one tailnet.
RecordKey = UserId | NodeId | AuthKeyId | ApiKeyId | LoginId | tuple[NodeId, ReplicaId] | str | None


@dataclass(frozen=True, slots=True)
class Put:
    """Insert the record, or replace the one with its key."""

    record: Record


@dataclass(frozen=True, slots=True)
class Drop:
    """Remove a record; the record as it was names its class and key."""

    record: Record


Write = Put | Drop


def key_of(record: Record) -> RecordKey:
    """Return the record's key within its class; None for the classes that have one record."""
    match record:
        case User(id=key) | Node(id=key) | AuthKey(id=key) | ApiKey(id=key) | PendingLogin(id=key):
            return key
        case SshCheck(id=check):
            return check
        case Presence(node=node, replica=replica):
            return node, replica
        case Primary(prefix=prefix):
            return str(prefix)
        case Counters() | Deployment() | Following():
            return None
