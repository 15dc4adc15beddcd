"""The tables. They never leave this package; records do.

Every table of a tailnet has the tailnet first in its primary key. Unique constraints repeat what
decisions already guarantee: a second line of defence, so that a bug fails a transaction instead of
giving two nodes one address.

Column types are the portable ones. Integers are 64 bits wide because ids go up to 2^53 and some
numbers come from clients. Lists are JSON text, keys are 32 raw bytes, times are UTC.

LIMIT(length): one schema, whose tables refer to each other.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar

from sqlalchemy import (
    BigInteger,
    DateTime,
    Dialect,
    Double,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlmodel import Field, SQLModel


class Utc(TypeDecorator[datetime]):
    """An aware datetime, stored as UTC, read back as UTC with microseconds.

    SQLite has no time zones: the zone is taken off on the way in and put back on the way out.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn an aware datetime of any zone into what the driver stores."""
        if value is None:
            return None
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Turn what the driver returns into an aware UTC datetime."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class _Row(SQLModel):
    """Base of all tables; names of constraints are fixed, so that migrations can name them."""

    metadata: ClassVar[MetaData] = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(referred_table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        }
    )


def _number(*, key: bool = False) -> int:
    # Without this a whole number that is the first of a key would count up by itself.
    by_itself = {"autoincrement": False}
    number: int = Field(primary_key=key, sa_type=BigInteger, sa_column_kwargs=by_itself)
    return number


def _time(*, optional: bool = False) -> datetime:
    moment: datetime = Field(sa_type=Utc, nullable=optional)
    return moment


def _of_tailnet() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["tailnet"], ["tailnets.name"])


class TailnetRow(_Row, table=True):
    """A tailnet and how far it is.

    Attributes:
        revision: number of its newest journal row; 0 before the first.
        next_node: `Counters.next_node`.
        next_user: `Counters.next_user`.
        in_force: revision of the deployment in force; null for none.
    """

    __tablename__ = "tailnets"

    name: str = Field(primary_key=True)
    revision: int = _number()
    next_node: int = _number()
    next_user: int = _number()
    in_force: int | None = Field(default=None, sa_type=BigInteger)
    created: datetime = _time()


class UserRow(_Row, table=True):
    """`domain.user.User`; `login_folded` is the login as it is compared."""

    __tablename__ = "users"
    __table_args__ = (_of_tailnet(), UniqueConstraint("tailnet", "login_folded"))

    tailnet: str = Field(primary_key=True)
    id: int = _number(key=True)
    login: str
    login_folded: str
    display_name: str
    role: str
    created: datetime = _time()
    declared: bool
    suspended: bool


class NodeRow(_Row, table=True):
    """`domain.node.Node`.

    The references are checked at the end of the transaction, because a batch removes the rows it
    replaces before it writes them again.
    """

    __tablename__ = "nodes"
    __table_args__ = (
        _of_tailnet(),
        ForeignKeyConstraint(
            ["tailnet", "user_id"],
            ["users.tailnet", "users.id"],
            deferrable=True,
            initially="DEFERRED",
        ),
        UniqueConstraint("stable_id"),
        UniqueConstraint("node_key"),
        UniqueConstraint("tailnet", "name"),
        UniqueConstraint("tailnet", "ipv4"),
        UniqueConstraint("tailnet", "ipv6"),
        Index(None, "tailnet", "user_id"),
    )

    tailnet: str = Field(primary_key=True)
    id: int = _number(key=True)
    stable_id: str
    machine_key: bytes
    node_key: bytes
    disco_key: bytes
    name: str
    name_pinned: bool
    ipv4: str
    ipv6: str
    created: datetime = _time()
    user_id: int | None = Field(default=None, sa_type=BigInteger)
    tags: str = Field(sa_type=Text)
    hostinfo: bytes = Field(sa_type=LargeBinary)
    advertised: str = Field(sa_type=Text)
    approved: str = Field(sa_type=Text)
    endpoints: str = Field(sa_type=Text)
    home_derp: int = _number()
    capability_version: int = _number()
    ephemeral: bool
    authorized: bool
    key_expiry: datetime | None = _time(optional=True)
    expiry_disabled: bool
    auth_key: str | None = None
    last_seen: datetime | None = _time(optional=True)
    custom: str = Field(sa_type=Text)


class AuthKeyRow(_Row, table=True):
    """`domain.authkey.AuthKey`."""

    __tablename__ = "auth_keys"
    __table_args__ = (_of_tailnet(),)

    tailnet: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    secret_hash: bytes
    description: str
    created: datetime = _time()
    expires: datetime = _time()
    user_id: int | None = Field(default=None, sa_type=BigInteger)
    tags: str = Field(sa_type=Text)
    reusable: bool
    ephemeral: bool
    preauthorized: bool
    uses: int = _number()
    last_used: datetime | None = _time(optional=True)
    revoked: datetime | None = _time(optional=True)


class ApiKeyRow(_Row, table=True):
    """`domain.apikey.ApiKey`; `client_scopes` is null for an API token."""

    __tablename__ = "api_keys"
    __table_args__ = (_of_tailnet(),)

    tailnet: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    secret_hash: bytes
    description: str
    created: datetime = _time()
    expires: datetime | None = _time(optional=True)
    last_used: datetime | None = _time(optional=True)
    revoked: datetime | None = _time(optional=True)
    client_scopes: str | None = Field(default=None, sa_type=Text)


class LoginRow(_Row, table=True):
    """`domain.login.PendingLogin`; `node_id` may outlive the node."""

    __tablename__ = "logins"
    __table_args__ = (_of_tailnet(),)

    tailnet: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    machine_key: bytes
    node_key: bytes
    old_node_key: bytes
    hostinfo: bytes
    ephemeral: bool
    capability_version: int = _number()
    created: datetime = _time()
    expires: datetime = _time()
    state: str
    node_id: int | None = Field(default=None, sa_type=BigInteger)


class SshCheckRow(_Row, table=True):
    """`domain.sshcheck.SshCheck`; what it names may be gone before it is."""

    __tablename__ = "ssh_checks"
    __table_args__ = (_of_tailnet(),)

    tailnet: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    source_id: int = _number()
    user_id: int = _number()
    target_id: int = _number()
    local_user: str
    created: datetime = _time()
    expires: datetime = _time()
    state: str
    decided: datetime | None = _time(optional=True)


class PresenceRow(_Row, table=True):
    """`domain.record.Presence`."""

    __tablename__ = "presence"
    __table_args__ = (
        _of_tailnet(),
        ForeignKeyConstraint(
            ["tailnet", "node_id"],
            ["nodes.tailnet", "nodes.id"],
            deferrable=True,
            initially="DEFERRED",
        ),
    )

    tailnet: str = Field(primary_key=True)
    node_id: int = _number(key=True)
    replica: str = Field(primary_key=True)
    since: datetime = _time()


class PrimaryRow(_Row, table=True):
    """`domain.record.Primary`.

    `node_id` refers to nothing that the database checks: a node whose row cannot be read carries no
    route, and must not keep the others from being written.
    """

    __tablename__ = "primaries"
    __table_args__ = (_of_tailnet(),)

    tailnet: str = Field(primary_key=True)
    prefix: str = Field(primary_key=True)
    node_id: int = _number()


class FollowingRow(_Row, table=True):
    """`domain.record.Following`; one for each tailnet.

    Attributes:
        skipped: JSON list of commit ids.
        held_commit: `Hold.pinned`.
        override: JSON object of the fields of `domain.record.Override`; null for none.
        delivered: JSON list of `domain.record.Delivered`, each a list of its fields in order.
        approvals: JSON list of `domain.record.Approval`.
        trial_commit: empty for no trial.
    """

    __tablename__ = "following"
    __table_args__ = (_of_tailnet(),)

    tailnet: str = Field(primary_key=True)
    status: str = Field(sa_type=Text)
    asked: int = _number()
    answered: int = _number()
    held: bool
    held_reason: str = Field(sa_type=Text)
    held_by: str = Field(sa_type=Text)
    held_since: datetime | None = _time(optional=True)
    held_until: datetime | None = _time(optional=True)
    held_commit: str = Field(sa_type=Text)
    skipped: str = Field(sa_type=Text)
    accepted: str = Field(sa_type=Text)
    override: str | None = Field(default=None, sa_type=Text)
    delivered: str = Field(sa_type=Text)
    approvals: str = Field(sa_type=Text)
    trial_commit: str = Field(sa_type=Text)
    trial_begun: int = _number()
    trial_reason: str = Field(sa_type=Text)
    retried: int = _number()


class DeploymentRow(_Row, table=True):
    """A commit that was put in force at a revision; ``tailnets.in_force`` says which one is now.

    Attributes:
        commit_id: full hex object id; the same commit may be deployed more than once.
        files: JSON object, path -> text.
        applied_by, reason, until, approved_by, approved_because: as in `Deployment`.
        verified_by: the same, JSON array.
    """

    __tablename__ = "deployments"
    __table_args__ = (_of_tailnet(),)

    tailnet: str = Field(primary_key=True)
    revision: int = _number(key=True)
    commit_id: str
    files: str = Field(sa_type=Text)
    subject: str
    author: str
    committed: datetime = _time()
    applied: datetime = _time()
    applied_by: str = Field(sa_type=Text)
    reason: str = Field(sa_type=Text)
    approved_by: str = Field(sa_type=Text)
    approved_because: str = Field(sa_type=Text)
    verified_by: str = Field(sa_type=Text)
    until: datetime | None = _time(optional=True)


class JournalRow(_Row, table=True):
    """One committed batch.

    Attributes:
        kind: the widest class it touched, for whoever reads the table.
        touched: JSON list of ``[class, key, "put" | "drop"]``, drops first.
        batch: drawn by who committed it, so that it knows its own row from another replica's.
    """

    __tablename__ = "journal"
    __table_args__ = (_of_tailnet(),)

    tailnet: str = Field(primary_key=True)
    revision: int = _number(key=True)
    at: datetime = _time()
    kind: str
    touched: str = Field(sa_type=Text)
    batch: str


class ServerSecretRow(_Row, table=True):
    """A key of the server itself, shared by all replicas and all tailnets.

    Attributes:
        value: sealed under a master key; the secret itself in rows of an earlier version.
        digest: SHA-256 of `value`, so that damage is told from a wrong key.
        sealed_by: fingerprint of the master key; null in rows of an earlier version.
    """

    __tablename__ = "server_secrets"

    name: str = Field(primary_key=True)
    value: bytes
    digest: bytes
    created: datetime = _time()
    sealed_by: str | None = None


class VaultRow(_Row, table=True):
    """A secret that the outside world asks a tailnet for; see ``vault.py``.

    Attributes:
        bound_to: what it is for, in the clear.
        value: sealed under the master key, tailnet, purpose and `bound_to`.
        fingerprint: 16 hex digits.
        created_s: when it was given, in seconds since 1970.
    """

    __tablename__ = "vault"
    __table_args__ = (_of_tailnet(),)

    tailnet: str = Field(primary_key=True)
    purpose: str = Field(primary_key=True)
    bound_to: str = Field(sa_type=Text)
    value: bytes
    fingerprint: str
    created_s: float = Field(sa_type=Double)


class LeaseRow(_Row, table=True):
    """Something that one replica holds for a while; see ``leases.py``.

    Attributes:
        holder: id of the replica that took it last.
        number: grows with every change of hands; `state.ports.Fence`.
        expires: by the database's clock.
    """

    __tablename__ = "leases"

    name: str = Field(primary_key=True)
    holder: str
    number: int = _number()
    expires: datetime = _time()


class FailureRow(_Row, table=True):
    """Failed attempts of somebody; see ``failures.py``.

    The server's, not a tailnet's: they are counted before it is known which one is meant.

    Attributes:
        key: what failed and who.
        forgiven_s: when all of them are forgiven, in seconds since 1970.
    """

    __tablename__ = "failures"

    key: str = Field(primary_key=True)
    forgiven_s: float = Field(sa_type=Double)


class LetterRow(_Row, table=True):
    """What is to be said to the outside; see ``outbox.py`` and `domain.letter.Letter`.

    Attributes:
        delivered: the newest sequence that was delivered, 0 for none.
        said: when the state was wanted first.
        trouble: why the last delivery failed, in our words; empty if none did.
    """

    __tablename__ = "outbox"
    __table_args__ = (_of_tailnet(),)

    tailnet: str = Field(primary_key=True)
    channel: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    sequence: int = _number()
    body: str = Field(sa_type=Text)
    final: bool
    delivered: int = _number()
    attempts: int = _number()
    said: datetime = _time()
    due: datetime = _time()
    trouble: str = Field(sa_type=Text)


METADATA = _Row.metadata
TAILNETS = METADATA.tables["tailnets"]
USERS = METADATA.tables["users"]
NODES = METADATA.tables["nodes"]
AUTH_KEYS = METADATA.tables["auth_keys"]
API_KEYS = METADATA.tables["api_keys"]
LOGINS = METADATA.tables["logins"]
SSH_CHECKS = METADATA.tables["ssh_checks"]
PRESENCE = METADATA.tables["presence"]
PRIMARIES = METADATA.tables["primaries"]
FOLLOWING = METADATA.tables["following"]
DEPLOYMENTS = METADATA.tables["deployments"]
JOURNAL = METADATA.tables["journal"]
SERVER_SECRETS = METADATA.tables["server_secrets"]
VAULT = METADATA.tables["vault"]
LEASES = METADATA.tables["leases"]
FAILURES = METADATA.tables["failures"]
OUTBOX = METADATA.tables["outbox"]
