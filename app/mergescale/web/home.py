"""``GET /``: what this is and how to join."""

from __future__ import annotations

from collections.abc import Callable

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from mergescale.web.pages import Pages


def home_handler(pages: Pages, server_url: Callable[[], str]) -> HTTPRouteHandler:
    """Return the handler."""

    @get("/", sync_to_thread=False)
    def home() -> Response[str]:
        """Show the command that joins a device."""
        return pages.render("home.html", server_url=server_url())

    return home
