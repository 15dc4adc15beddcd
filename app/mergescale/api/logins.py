"""Pending logins: devices that wait for a person. An extension in the style of the rest."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from litestar import get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, Struct, UnsetType

from mergescale.api import device
from mergescale.api.callers import Authenticated, Caller
from mergescale.api.device import Device
from mergescale.api.openapi import ERRORS
from mergescale.domain.login import PendingLogin, Standing, standing
from mergescale.domain.snapshot import Snapshot
from mergescale.identity.fingerprint import fingerprint
from mergescale.identity.secrets import ID_BYTES, stable_id
from mergescale.kernel.errors import NotFound
from mergescale.kernel.ids import LoginId
from mergescale.state import logins
from mergescale.wire.tailcfg.hostinfo import stored_hostinfo


class Login(Struct, frozen=True, kw_only=True, rename="camel"):
    """A device that asks to be let in.

    Attributes:
        id: last part of the address that the device shows.
        hostname, os, client_version: as the device says; nobody checked.
        requested_tags: what it asks to be tagged with, unchecked too.
        fingerprint: short form of the machine key; the page of the login shows the same.
        expires: when the login is forgotten.
        node_id: the device it became, once approved.
    """

    id: str
    state: Standing
    hostname: str
    os: str
    client_version: str
    requested_tags: list[str]
    fingerprint: str
    machine_key: str
    node_key: str
    is_ephemeral: bool
    created: datetime
    expires: datetime
    node_id: str | UnsetType = UNSET


class Logins(Struct, frozen=True):
    """Logins of a tailnet, oldest first."""

    logins: list[Login]


class Approve(Struct, frozen=True):
    """How a device is let in.

    Attributes:
        user: login of its owner; null exactly when `tags` own it.
        tags: own the device.
    """

    user: str | None = None
    tags: list[str] | None = None


@get("/tailnet/{tailnet:str}/logins", responses=ERRORS, tags=["Logins"], sync_to_thread=False)
def list_logins(caller: Caller) -> Logins:
    """List the logins that wait for somebody."""
    snapshot, now = caller.snapshot, caller.now()
    return Logins([_render(snapshot, one, now) for one in logins.waiting(snapshot, now)])


@get("/logins/{login_id:str}", responses=ERRORS, tags=["Logins"], sync_to_thread=False)
def get_login(caller: Caller, login_id: FromPath[str]) -> Login:
    """Show one login, decided or not, until it is forgotten."""
    return _render(caller.snapshot, _login_of(caller, login_id), caller.now())


@post("/logins/{login_id:str}/approve", status_code=200, responses=ERRORS, tags=["Logins"])
async def approve_login(caller: Caller, login_id: FromPath[str], data: JSONBody[Approve]) -> Device:
    """Let the device in, for a user or for tags; answers with the device it became.

    This also approves the device, where the tailnet asks for that: it is an operator who does it.
    """
    found = _login_of(caller, login_id)
    approval = logins.Approval(
        stable_id=stable_id(caller.draw(ID_BYTES)),
        user=data.user or None,
        tags=tuple(data.tags or ()),
        preauthorized=True,
    )
    node = await caller.engine.apply(logins.approve(found.id, approval))
    return device.brief(caller.snapshot, node)


@post("/logins/{login_id:str}/reject", status_code=200, responses=ERRORS, tags=["Logins"])
async def reject_login(caller: Caller, login_id: FromPath[str]) -> Login:
    """Turn the device away."""
    found = _login_of(caller, login_id)
    rejected = await caller.engine.apply(logins.reject(found.id))
    return _render(caller.snapshot, rejected, caller.now())


HANDLERS: Final[list[HTTPRouteHandler]] = [list_logins, get_login, approve_login, reject_login]


def _login_of(caller: Authenticated, login_id: str) -> PendingLogin:
    found = caller.snapshot.logins.get(LoginId(login_id))
    if found is None:
        raise NotFound(
            "no such login, or it has expired",
            help="the device shows a new address when it retries",
        )
    return found


def _render(snapshot: Snapshot, login: PendingLogin, now: datetime) -> Login:
    said = stored_hostinfo(login.hostinfo)
    node = None if login.node is None else snapshot.nodes.get(login.node)
    return Login(
        id=login.id,
        state=standing(login.state, login.expires, now),
        hostname=said.hostname,
        os=said.os,
        client_version=said.ipn_version,
        requested_tags=list(said.request_tags),
        fingerprint=fingerprint(login.machine_key),
        machine_key=str(login.machine_key),
        node_key=str(login.node_key),
        is_ephemeral=login.ephemeral,
        created=login.created,
        expires=login.expires,
        node_id=UNSET if node is None else node.stable_id,
    )
