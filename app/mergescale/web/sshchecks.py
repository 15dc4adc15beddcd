"""``GET /ssh/<id>``: the page that the user of an SSH login is sent to.

It says who wants in where, and the command that approves. It approves nothing itself: whoever has
taken over the source could open it, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from mergescale.domain.login import Standing, standing
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.sshcheck import SshCheck
from mergescale.kernel.clock import Clock
from mergescale.kernel.ids import LoginId, NodeId
from mergescale.state.sshchecks import LIFE
from mergescale.state.tailnets import Tailnets
from mergescale.web.pages import Pages

_LIFE: Final = f"{LIFE // timedelta(minutes=1)} minutes"


@dataclass(frozen=True, slots=True)
class CheckView:
    """What the page tells of a check.

    Attributes:
        user: login of whoever owns the source; empty if it is gone, as for the names.
    """

    id: str
    state: Standing
    user: str
    source: str
    target: str
    local_user: str
    asked: datetime
    expires: datetime


def check_handler(pages: Pages, tailnets: Tailnets, clock: Clock) -> HTTPRouteHandler:
    """Return the handler."""

    @get("/ssh/{check_id:str}", sync_to_thread=False)
    def read_check(check_id: FromPath[str]) -> Response[str]:
        """Show where a check stands; changes nothing."""
        engine = tailnets.of_ssh_check(LoginId(check_id))
        if engine is None:
            return pages.render("ssh_missing.html", status=404, life=_LIFE)
        snapshot = engine.snapshot
        check = snapshot.ssh_checks[LoginId(check_id)]
        return pages.render("ssh.html", asked=view(snapshot, check, clock.now()), life=_LIFE)

    return read_check


def view(snapshot: Snapshot, check: SshCheck, now: datetime) -> CheckView:
    """Return what is told of a check at a time."""
    user = snapshot.users.get(check.user)
    return CheckView(
        id=check.id,
        state=standing(check.state, check.expires, now),
        user="" if user is None else user.login,
        source=_name(snapshot, check.source),
        target=_name(snapshot, check.target),
        local_user=check.local_user,
        asked=check.created,
        expires=check.expires,
    )


def _name(snapshot: Snapshot, node: NodeId) -> str:
    found = snapshot.nodes.get(node)
    return "" if found is None else f"{found.name}.{snapshot.magic_dns_suffix}"
