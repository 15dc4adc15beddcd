"""The tables of the first version."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make everything."""
    _create_tailnets()
    _create_users()
    _create_nodes()
    _create_keys()
    _create_logins()
    _create_presence()
    _create_history()
    _create_server_secrets()


def downgrade() -> None:
    """Remove everything, referring tables first."""
    for table in (
        "server_secrets",
        "journal",
        "deployments",
        "presence",
        "logins",
        "api_keys",
        "auth_keys",
        "nodes",
        "users",
        "tailnets",
    ):
        op.drop_table(table)


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _text(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.String(), nullable=False)


def _json(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.Text(), nullable=False)


def _bytes(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.LargeBinary(), nullable=False)


def _flag(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def _number(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable, autoincrement=False)


def _of_tailnet(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["tailnet"], ["tailnets.name"], name=f"fk_{table}_tailnets")


def _create_tailnets() -> None:
    op.create_table(
        "tailnets",
        _text("name"),
        _number("revision"),
        _number("next_node"),
        _number("next_user"),
        _number("in_force", nullable=True),
        _time("created"),
        sa.PrimaryKeyConstraint("name", name="pk_tailnets"),
    )


def _create_users() -> None:
    op.create_table(
        "users",
        _text("tailnet"),
        _number("id"),
        _text("login"),
        _text("login_folded"),
        _text("display_name"),
        _text("role"),
        _time("created"),
        _flag("declared"),
        _flag("suspended"),
        sa.PrimaryKeyConstraint("tailnet", "id", name="pk_users"),
        _of_tailnet("users"),
        sa.UniqueConstraint("tailnet", "login_folded", name="uq_users_tailnet_login_folded"),
    )


def _create_nodes() -> None:
    op.create_table(
        "nodes",
        _text("tailnet"),
        _number("id"),
        _text("stable_id"),
        _bytes("machine_key"),
        _bytes("node_key"),
        _bytes("disco_key"),
        _text("name"),
        _flag("name_pinned"),
        _text("ipv4"),
        _text("ipv6"),
        _time("created"),
        _number("user_id", nullable=True),
        _json("tags"),
        _bytes("hostinfo"),
        _json("advertised"),
        _json("approved"),
        _json("endpoints"),
        _number("home_derp"),
        _number("capability_version"),
        _flag("ephemeral"),
        _flag("authorized"),
        _time("key_expiry", nullable=True),
        sa.Column("auth_key", sa.String(), nullable=True),
        _time("last_seen", nullable=True),
        sa.PrimaryKeyConstraint("tailnet", "id", name="pk_nodes"),
        _of_tailnet("nodes"),
        sa.ForeignKeyConstraint(
            ["tailnet", "user_id"],
            ["users.tailnet", "users.id"],
            name="fk_nodes_users",
            deferrable=True,
            initially="DEFERRED",
        ),
        sa.UniqueConstraint("stable_id", name="uq_nodes_stable_id"),
        sa.UniqueConstraint("node_key", name="uq_nodes_node_key"),
        sa.UniqueConstraint("tailnet", "name", name="uq_nodes_tailnet_name"),
        sa.UniqueConstraint("tailnet", "ipv4", name="uq_nodes_tailnet_ipv4"),
        sa.UniqueConstraint("tailnet", "ipv6", name="uq_nodes_tailnet_ipv6"),
    )
    op.create_index("ix_nodes_tailnet_user_id", "nodes", ["tailnet", "user_id"])


def _create_keys() -> None:
    op.create_table(
        "auth_keys",
        _text("tailnet"),
        _text("id"),
        _bytes("secret_hash"),
        _text("description"),
        _time("created"),
        _time("expires"),
        _number("user_id", nullable=True),
        _json("tags"),
        _flag("reusable"),
        _flag("ephemeral"),
        _flag("preauthorized"),
        _number("uses"),
        _time("last_used", nullable=True),
        _time("revoked", nullable=True),
        sa.PrimaryKeyConstraint("tailnet", "id", name="pk_auth_keys"),
        _of_tailnet("auth_keys"),
    )
    op.create_table(
        "api_keys",
        _text("tailnet"),
        _text("id"),
        _bytes("secret_hash"),
        _text("description"),
        _time("created"),
        _time("expires", nullable=True),
        _time("last_used", nullable=True),
        _time("revoked", nullable=True),
        sa.PrimaryKeyConstraint("tailnet", "id", name="pk_api_keys"),
        _of_tailnet("api_keys"),
    )


def _create_logins() -> None:
    op.create_table(
        "logins",
        _text("tailnet"),
        _text("id"),
        _bytes("machine_key"),
        _bytes("node_key"),
        _bytes("old_node_key"),
        _bytes("hostinfo"),
        _flag("ephemeral"),
        _number("capability_version"),
        _time("created"),
        _time("expires"),
        _text("state"),
        _number("node_id", nullable=True),
        sa.PrimaryKeyConstraint("tailnet", "id", name="pk_logins"),
        _of_tailnet("logins"),
    )


def _create_presence() -> None:
    op.create_table(
        "presence",
        _text("tailnet"),
        _number("node_id"),
        _text("replica"),
        _time("since"),
        sa.PrimaryKeyConstraint("tailnet", "node_id", "replica", name="pk_presence"),
        _of_tailnet("presence"),
        sa.ForeignKeyConstraint(
            ["tailnet", "node_id"],
            ["nodes.tailnet", "nodes.id"],
            name="fk_presence_nodes",
            deferrable=True,
            initially="DEFERRED",
        ),
    )


def _create_history() -> None:
    op.create_table(
        "deployments",
        _text("tailnet"),
        _number("revision"),
        _text("commit_id"),
        _json("files"),
        _text("subject"),
        _text("author"),
        _time("committed"),
        _time("applied"),
        sa.PrimaryKeyConstraint("tailnet", "revision", name="pk_deployments"),
        _of_tailnet("deployments"),
    )
    op.create_table(
        "journal",
        _text("tailnet"),
        _number("revision"),
        _time("at"),
        _text("kind"),
        _json("touched"),
        _text("batch"),
        sa.PrimaryKeyConstraint("tailnet", "revision", name="pk_journal"),
        _of_tailnet("journal"),
    )


def _create_server_secrets() -> None:
    op.create_table(
        "server_secrets",
        _text("name"),
        _bytes("value"),
        _bytes("digest"),
        _time("created"),
        sa.PrimaryKeyConstraint("name", name="pk_server_secrets"),
    )
