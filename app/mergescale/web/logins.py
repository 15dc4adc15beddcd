"""``GET /register/<id>``: the page behind an AuthURL (spec 3.4).

It shows which machine asks, so that whoever approves can compare, and the command that approves.
It approves nothing itself: a link is opened by whoever receives it, and a device that got in by the
click of somebody else would be the oldest trick there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from mergescale.domain.login import PendingLogin, Standing, standing
from mergescale.domain.snapshot import Snapshot
from mergescale.identity.fingerprint import fingerprint
from mergescale.kernel.clock import Clock
from mergescale.kernel.ids import LoginId
from mergescale.state.logins import LIFE
from mergescale.state.tailnets import Tailnets
from mergescale.web.pages import Pages
from mergescale.wire.tailcfg.hostinfo import stored_hostinfo

_LIFE: Final = f"{LIFE // timedelta(minutes=1)} minutes"


@dataclass(frozen=True, slots=True)
class LoginView:
    """What the page tells of a login.

    Attributes:
        fingerprint: of the machine's key; ``mergescale auth`` shows the same.
        requested_tags: what the device asks to be tagged with, unchecked.
        node: name of the node it became, empty if it did not or is gone again.
    """

    id: str
    state: Standing
    hostname: str
    os: str
    client: str
    fingerprint: str
    requested_tags: tuple[str, ...]
    asked: datetime
    expires: datetime
    node: str


def login_handler(pages: Pages, tailnets: Tailnets, clock: Clock) -> HTTPRouteHandler:
    """Return the handler."""

    @get("/register/{login_id:str}", sync_to_thread=False)
    def read_login(login_id: FromPath[str]) -> Response[str]:
        """Show where a login stands; changes nothing."""
        engine = tailnets.of_login(LoginId(login_id))
        if engine is None:
            return pages.render("login_missing.html", status=404, life=_LIFE)
        snapshot = engine.snapshot
        login = snapshot.logins[LoginId(login_id)]
        return pages.render("login.html", asked=view(snapshot, login, clock.now()), life=_LIFE)

    return read_login


def view(snapshot: Snapshot, login: PendingLogin, now: datetime) -> LoginView:
    """Return what is told of a login at a time."""
    said = stored_hostinfo(login.hostinfo)
    node = None if login.node is None else snapshot.nodes.get(login.node)
    return LoginView(
        id=login.id,
        state=standing(login.state, login.expires, now),
        hostname=said.hostname,
        os=" ".join(filter(None, (said.os, said.os_version))),
        client=said.ipn_version,
        fingerprint=fingerprint(login.machine_key),
        requested_tags=said.request_tags,
        asked=login.created,
        expires=login.expires,
        node="" if node is None else f"{node.name}.{snapshot.magic_dns_suffix}",
    )
