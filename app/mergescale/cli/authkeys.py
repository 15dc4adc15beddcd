"""``mergescale authkeys``: pre-auth keys, which let devices in."""

from __future__ import annotations

from typing import Any, Final

import click

from mergescale.cli import keys
from mergescale.cli.groups import noun
from mergescale.cli.keys import description_option, ended_option, expiry_option, key_argument
from mergescale.cli.options import Session, online
from mergescale.cli.screen import NOTHING, several

app = noun("authkeys", "Pre-auth keys: devices join with them, nobody has to approve.")


def _create(key: keys.Key) -> dict[str, Any]:
    create: dict[str, Any] = key["capabilities"]["devices"]["create"]
    return create


def _owner(key: keys.Key) -> str:
    return key.get("user") or several(_create(key)["tags"])


def _kind(key: keys.Key) -> str:
    words = ("reusable", "ephemeral", "preauthorized")
    return several([word for word in words if _create(key)[word]]) or NOTHING


_COLUMNS: Final[keys.Columns] = {
    "ID": keys.id_of,
    "OWNER": _owner,
    "KIND": _kind,
    "USES": lambda key: str(key["uses"]),
    "STATE": keys.state,
    "EXPIRES": keys.expires,
    "DESCRIPTION": keys.description,
}


@app.command("list")
@ended_option
@online
def list_keys(session: Session, *, ended: bool) -> None:
    """List the pre-auth keys that still let devices in."""
    keys.show(session, "auth", _COLUMNS, ended=ended)


@app.command("create")
@click.option("--user", metavar="LOGIN", help="Owns the devices that join.")
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="Owns them instead; repeatable.")
@click.option("--reusable", is_flag=True, help="For any number of devices.")
@click.option("--ephemeral", is_flag=True, help="Devices are removed once they stay away.")
@click.option("--preauthorized", is_flag=True, help="Devices need no approval.")
@expiry_option
@description_option
@online
def create_key(
    session: Session,
    user: str | None,
    tags: tuple[str, ...],
    expiry_s: int | None,
    description: str,
    **kind: bool,
) -> None:
    """Make a pre-auth key. Prints the key alone; it is shown this once."""
    if not user and not tags:
        raise click.UsageError("say who owns the devices: --user LOGIN or --tag tag:NAME")
    body = {
        "capabilities": {"devices": {"create": {**kind, "tags": list(tags)}}},
        "expirySeconds": expiry_s or 0,
        "description": description,
        "user": user,
    }
    hint = "A device joins with: tailscale up --login-server=URL --auth-key=KEY"
    keys.create(session, "auth", body, hint)


@app.command("revoke")
@key_argument
@online
def revoke_key(session: Session, key: str) -> None:
    """Let a key admit nobody any more; devices that it admitted stay."""
    keys.revoke(session, "auth", key)
