"""``mergescale nodes routes`` and what approves them."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any, Final

import click

from mergescale.cli.errors import CommandFailed
from mergescale.cli.node import find, label, node_argument
from mergescale.cli.options import Session, online
from mergescale.cli.screen import Cell, Tone, several

#: Both, or it is no exit node; the server approves them together.
_EXIT: Final = frozenset({"0.0.0.0/0", "::/0"})

_routes_argument: Final = click.argument("routes", metavar="[ROUTE]...", nargs=-1)


@click.command("routes")
@click.argument("node", required=False)
@online
def list_routes(session: Session, node: str | None) -> None:
    """List the routes that nodes offer, and those that they may carry."""
    found = _routers(session, node)
    if session.screen.is_json:
        session.screen.json(
            [
                {"node": label(one), "nodeId": one["nodeId"], **_both(one)}
                for one in found
                if one["advertisedRoutes"] or one["enabledRoutes"]
            ]
        )
        return
    titles = ("ROUTE", "NODE", "ADVERTISED", "APPROVED")
    session.screen.table(titles, (row for one in found for row in _rows(one)))


@click.command("approve-routes")
@node_argument
@_routes_argument
@click.option("--all", "every", is_flag=True, help="All that it advertises.")
@online
def approve_routes(session: Session, node: str, routes: tuple[str, ...], *, every: bool) -> None:
    """Let a node carry routes, beside those that it may carry already.

    0.0.0.0/0 or ::/0 makes an exit node of it, for both families.
    """
    found = find(session, node, fields="all")
    wanted = _wanted(routes, every=every, known=found["advertisedRoutes"])
    _set(session, found, [*found["enabledRoutes"], *wanted])


@click.command("unapprove-routes")
@node_argument
@_routes_argument
@click.option("--all", "every", is_flag=True, help="All that it may carry.")
@online
def unapprove_routes(session: Session, node: str, routes: tuple[str, ...], *, every: bool) -> None:
    """Let a node carry these routes no longer."""
    found = find(session, node, fields="all")
    approved = found["enabledRoutes"]
    unwanted = {str(_prefix(text)) for text in _wanted(routes, every=every, known=approved)}
    missing = unwanted.difference(approved)
    if missing:
        raise CommandFailed(
            f"{min(missing)} is not approved for {label(found)}",
            help=f"`mergescale nodes routes {label(found)}` shows which are",
        )
    if unwanted & _EXIT:
        unwanted |= _EXIT
    _set(session, found, [route for route in approved if route not in unwanted])


def _routers(session: Session, node: str | None) -> list[dict[str, Any]]:
    if node is not None:
        return [find(session, node, fields="all")]
    query = {"fields": "all"}
    found: list[dict[str, Any]] = session.server.inside("GET", "devices", query=query)["devices"]
    return found


def _rows(node: dict[str, Any]) -> Iterator[tuple[Cell | str, ...]]:
    advertised, approved = node["advertisedRoutes"], node["enabledRoutes"]
    for route in dict.fromkeys([*advertised, *approved]):
        offered = Cell("yes") if route in advertised else Cell("no", Tone.DIM)
        allowed = Cell("yes", Tone.GOOD) if route in approved else Cell("no", Tone.BAD)
        yield route, label(node), offered, allowed


def _both(node: dict[str, Any]) -> dict[str, Any]:
    return {name: node[name] for name in ("advertisedRoutes", "enabledRoutes")}


def _wanted(routes: tuple[str, ...], *, every: bool, known: list[str]) -> list[str]:
    if every == bool(routes):
        raise click.UsageError("name routes, or say --all")
    return known if every else list(routes)


def _prefix(text: str) -> object:
    try:
        return ip_network(text)
    except ValueError:
        raise CommandFailed(
            f'"{text}" is not a route', help="a route is a prefix, as in 10.0.0.0/8"
        ) from None


def _set(session: Session, node: dict[str, Any], routes: list[str]) -> None:
    body = {"routes": routes}
    now = session.server.call("POST", "device", node["nodeId"], "routes", body=body)
    if session.screen.is_json:
        session.screen.json(now)
    session.screen.done(f"{label(node)} may carry {several(now['enabledRoutes'])}")
