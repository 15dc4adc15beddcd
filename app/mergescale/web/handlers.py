"""All pages, for the application."""

from __future__ import annotations

from collections.abc import Callable

from litestar.handlers import HTTPRouteHandler

from mergescale.kernel.clock import Clock
from mergescale.state.tailnets import Tailnets
from mergescale.web import assets
from mergescale.web.home import home_handler
from mergescale.web.logins import login_handler
from mergescale.web.pages import Pages
from mergescale.web.sshchecks import check_handler


def web_handlers(
    tailnets: Tailnets, clock: Clock, server_url: Callable[[], str]
) -> list[HTTPRouteHandler]:
    """Return the handlers.

    Args:
        tailnets: where logins wait.
        clock: says which have expired.
        server_url: what clients are told to use; asked for each page, as the port may be known
            late.
    """
    files = assets.load()
    pages = Pages(files)
    return [
        home_handler(pages, server_url),
        login_handler(pages, tailnets, clock),
        check_handler(pages, tailnets, clock),
        assets.asset_handler(files),
    ]
