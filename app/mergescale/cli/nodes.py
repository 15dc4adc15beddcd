"""``mergescale nodes``: devices."""

from __future__ import annotations

from typing import Any

import click

from mergescale.cli import routes
from mergescale.cli.groups import noun
from mergescale.cli.node import expires, find, label, last_seen, node_argument, owner, show, state
from mergescale.cli.options import Session, online, yes_option
from mergescale.cli.questions import confirm
from mergescale.cli.screen import several

app = noun("nodes", "Devices: who they are, what they are called, what they may route.")

#: Of routes, which have a module of their own.
app.add_command(routes.list_routes)
app.add_command(routes.approve_routes)
app.add_command(routes.unapprove_routes)


@app.command("list")
@online
def list_nodes(session: Session) -> None:
    """List the nodes."""
    nodes = session.server.inside("GET", "devices")["devices"]
    if session.screen.is_json:
        session.screen.json(nodes)
        return
    titles = ("ID", "NAME", "OWNER", "ADDRESSES", "STATE", "LAST SEEN", "KEY EXPIRES")
    session.screen.table(
        titles,
        (
            (
                node["id"],
                label(node),
                owner(node),
                several(node["addresses"]),
                state(node),
                last_seen(node),
                expires(node),
            )
            for node in nodes
        ),
    )


@app.command("get")
@node_argument
@online
def get_node(session: Session, node: str) -> None:
    """Show one node."""
    show(session, find(session, node, fields="all"))


@app.command("delete")
@node_argument
@yes_option
@online
def delete_node(session: Session, node: str, *, yes: bool) -> None:
    """Remove a node; it is logged out, and comes back as a new one if at all."""
    found = find(session, node)
    confirm(f"Delete {label(found)} ({several(found['addresses'])})?", yes=yes)
    session.server.call("DELETE", "device", found["nodeId"])
    _changed(session, found, f"deleted {label(found)}", gone=True)


@app.command("rename")
@node_argument
@click.argument("name")
@online
def rename_node(session: Session, node: str, name: str) -> None:
    """Name a node; the name stays whatever its host name becomes."""
    found = find(session, node)
    _set(session, found, "name", name=name)
    _changed(session, found, f"renamed {label(found)} to {name}")


@app.command("tag")
@node_argument
@click.argument("tags", metavar="TAG...", nargs=-1, required=True)
@online
def tag_node(session: Session, node: str, tags: tuple[str, ...]) -> None:
    """Let tags own a node, exactly these; its key no longer expires."""
    found = find(session, node)
    _set(session, found, "tags", tags=list(tags))
    _changed(session, found, f"{label(found)} is owned by {several(list(tags))}")


@app.command("authorize")
@node_argument
@online
def authorize_node(session: Session, node: str) -> None:
    """Approve a node, where the tailnet asks for that."""
    found = find(session, node)
    _set(session, found, "authorized", authorized=True)
    _changed(session, found, f"{label(found)} is authorized")


@app.command("deauthorize")
@node_argument
@online
def deauthorize_node(session: Session, node: str) -> None:
    """Take a node's approval back; it reaches nobody."""
    found = find(session, node)
    _set(session, found, "authorized", authorized=False)
    _changed(session, found, f"{label(found)} is no longer authorized")


@app.command("expire")
@node_argument
@online
def expire_node(session: Session, node: str) -> None:
    """Let a node's key expire now: its user has to log in again."""
    found = find(session, node)
    session.server.call("POST", "device", found["nodeId"], "expire")
    _changed(session, found, f"the key of {label(found)} expired")


@app.command("key-expiry")
@node_argument
@click.argument("switch", metavar="on|off", type=click.Choice(["on", "off"]))
@online
def set_key_expiry(session: Session, node: str, switch: str) -> None:
    """Let a node's key expire after the tailnet's time, or never."""
    found = find(session, node)
    _set(session, found, "key", keyExpiryDisabled=switch == "off")
    word = "expires" if switch == "on" else "never expires"
    _changed(session, found, f"the key of {label(found)} {word}")


def _set(session: Session, node: dict[str, Any], what: str, **body: object) -> None:
    session.server.call("POST", "device", node["nodeId"], what, body=body)


def _changed(session: Session, node: dict[str, Any], told: str, *, gone: bool = False) -> None:
    """Say what was done; a program gets the node as it is now, or as it was."""
    if session.screen.is_json:
        now = node if gone else session.server.call("GET", "device", node["nodeId"])
        session.screen.json(now)
    session.screen.done(told)
