"""One node: found by what people call it, and shown."""

from __future__ import annotations

from typing import Any, Final

import click

from mergescale.cli.errors import CommandFailed
from mergescale.cli.options import Session
from mergescale.cli.screen import NOTHING, Cell, Tone, moment, several, yes

#: Its name, or one of its ids.
node_argument: Final = click.argument("node")


def find(session: Session, text: str, *, fields: str = "default") -> dict[str, Any]:
    """Return the node with this name or id; digits alone are an id.

    Raises:
        CommandFailed: there is none, or the server does not say.
    """
    query = {"fields": fields}
    # A stable id, as the server makes them, has capitals, which no name has.
    if text.isdigit() or text.endswith("CNTRL"):
        found: dict[str, Any] = session.server.call("GET", "device", text, query=query)
        return found
    wanted = text.lower().rstrip(".")
    for node in session.server.inside("GET", "devices", query=query)["devices"]:
        if wanted in {node["name"].lower(), label(node).lower()}:
            chosen: dict[str, Any] = node
            return chosen
    raise CommandFailed(f'no node "{text}"', help="`mergescale nodes list` shows which there are")


def label(node: dict[str, Any]) -> str:
    """Return the name of a node without the tailnet's suffix."""
    return str(node["name"]).partition(".")[0]


def owner(node: dict[str, Any]) -> str:
    """Return who owns a node: its tags or its user."""
    return several(node["tags"]) if node["tags"] else str(node["user"])


def show(session: Session, node: dict[str, Any]) -> None:
    """Print one node with all that is known of it."""
    if session.screen.is_json:
        session.screen.json(node)
        return
    connectivity = node.get("clientConnectivity", {})
    session.screen.details(
        [
            ("Name", node["name"]),
            ("ID", f"{node['id']} ({node['nodeId']})"),
            ("Owner", owner(node)),
            ("Addresses", several(node["addresses"])),
            ("State", state(node)),
            ("Last seen", last_seen(node)),
            ("Created", moment(node["created"])),
            ("Key expires", expires(node)),
            ("Ephemeral", yes(node["isEphemeral"])),
            ("Host name", node["hostname"]),
            ("System", f"{node['os']} {node['clientVersion']}".strip()),
            ("Advertises", several(node.get("advertisedRoutes"))),
            ("May route", several(node.get("enabledRoutes"))),
            ("Endpoints", several(connectivity.get("endpoints"))),
            ("Home relay", connectivity.get("derp") or NOTHING),
            ("Machine key", node["machineKey"]),
            ("Node key", node["nodeKey"]),
        ]
    )


def state(node: dict[str, Any]) -> Cell:
    """Return whether a node is let in and connected."""
    if not node["authorized"]:
        return Cell("unauthorized", Tone.BAD)
    if node["connectedToControl"]:
        return Cell("online", Tone.GOOD)
    return Cell("offline", Tone.DIM)


def last_seen(node: dict[str, Any]) -> str:
    """Return when a node was last connected."""
    return "now" if node["connectedToControl"] else moment(node.get("lastSeen"))


def expires(node: dict[str, Any]) -> str:
    """Return when a node's key expires."""
    return "never" if node["keyExpiryDisabled"] else moment(node["expires"])
