"""Which routes a device may carry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from litestar import get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from msgspec import Struct

from mergescale.api.callers import Caller
from mergescale.api.nodes import node_of
from mergescale.api.openapi import ERRORS
from mergescale.domain.node import Node
from mergescale.domain.prefixes import Prefix, parse_prefix, sort_key
from mergescale.kernel.errors import Invalid
from mergescale.state import routes


class SetRoutes(Struct, frozen=True):
    """What a device may route from now on.

    Attributes:
        routes: all of them, as CIDR; null, as Go writes an empty list, is none.
    """

    routes: list[str] | None


class Routes(Struct, frozen=True, rename="camel"):
    """What a device offers to route, and what it may.

    Attributes:
        enabled_routes: those that it does not advertise are approved in advance.
    """

    advertised_routes: list[str]
    enabled_routes: list[str]


@get("/device/{device_id:str}/routes", responses=ERRORS, tags=["Devices"], sync_to_thread=False)
def get_routes(caller: Caller, device_id: FromPath[str]) -> Routes:
    """Show a device's routes."""
    return _render(node_of(caller, device_id))


@post("/device/{device_id:str}/routes", status_code=200, responses=ERRORS, tags=["Devices"])
async def set_routes(caller: Caller, device_id: FromPath[str], data: JSONBody[SetRoutes]) -> Routes:
    """Let a device route exactly these prefixes, advertised or not.

    `0.0.0.0/0` or `::/0` makes an exit node of it, for both families.
    """
    node_id = node_of(caller, device_id).id
    wanted = [_prefix(text) for text in data.routes or ()]
    return _render(await caller.engine.apply(routes.approve(node_id, wanted)))


HANDLERS: Final[list[HTTPRouteHandler]] = [get_routes, set_routes]


def _render(node: Node) -> Routes:
    return Routes(_texts(node.advertised), _texts(node.approved))


def _texts(prefixes: Iterable[Prefix]) -> list[str]:
    return [str(prefix) for prefix in sorted(prefixes, key=sort_key)]


def _prefix(text: str) -> Prefix:
    try:
        return parse_prefix(text)
    except ValueError:
        raise Invalid(
            f'"{text[:80]}" is not a route',
            help="a route is a prefix without host bits, as in 10.0.0.0/8",
        ) from None
