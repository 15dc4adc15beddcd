"""People."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from litestar import get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Struct

from mergescale.api.callers import Authenticated, Caller
from mergescale.api.openapi import ERRORS, Nothing
from mergescale.domain.node import Node
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import Role
from mergescale.domain.user import User as Person
from mergescale.kernel.errors import NotFound
from mergescale.kernel.ids import UserId
from mergescale.state import users

#: Go's zero time, for somebody who was never connected: Go's client takes nothing but a time.
_NEVER: Final = datetime(1, 1, 1, tzinfo=UTC)
#: LIMIT: digits of the largest id that JSON carries.
_ID_DIGITS: Final = 16


class User(Struct, frozen=True, kw_only=True, rename="camel"):
    """A person.

    Attributes:
        id: decimal.
        status: ``active`` or ``suspended``.
        last_seen: when a device of theirs was last connected; now while one is, year 1 for never.
        declared: managed by the repository's ``users.hujson``. An extension.
    """

    id: str
    display_name: str
    login_name: str
    profile_pic_url: str = ""
    tailnet_id: str
    created: datetime
    type: Literal["member"] = "member"
    role: Role
    status: Literal["active", "suspended"]
    device_count: int
    last_seen: datetime
    currently_connected: bool
    declared: bool


class Users(Struct, frozen=True):
    """All people of a tailnet, in the order of their ids."""

    users: list[User]


class CreateUser(Struct, frozen=True, rename="camel"):
    """Somebody to be made known."""

    login_name: str
    display_name: str = ""
    role: Role = Role.MEMBER


class SetRole(Struct, frozen=True):
    """The role that somebody is to have."""

    role: Role


@get("/tailnet/{tailnet:str}/users", responses=ERRORS, tags=["Users"], sync_to_thread=False)
def list_users(
    caller: Caller,
    role: FromQuery[Role | None] = None,
    kind: Annotated[Literal["member", "shared"], QueryParameter(name="type")] = "member",
) -> Users:
    """List the people of the tailnet. Nobody is shared into one yet, so `type=shared` finds none."""
    snapshot = caller.snapshot
    found = [
        user
        for user in snapshot.users.values()
        if kind == "member" and (role is None or user.role is role)
    ]
    owned = _owned(snapshot.nodes.values())
    return Users([_render(snapshot, user, owned, caller.now()) for user in found])


@post("/tailnet/{tailnet:str}/users", status_code=200, responses=ERRORS, tags=["Users"])
async def create_user(caller: Caller, data: JSONBody[CreateUser]) -> User:
    """Make a person known. An extension; the hosted service invites."""
    made = await caller.engine.apply(
        users.create(data.login_name, display_name=data.display_name, role=data.role)
    )
    return _render(caller.snapshot, made, {}, caller.now())


@get("/users/{user_id:str}", responses=ERRORS, tags=["Users"], sync_to_thread=False)
def get_user(caller: Caller, user_id: FromPath[str]) -> User:
    """Show one person."""
    snapshot = caller.snapshot
    user = _user_of(caller, user_id)
    return _render(snapshot, user, _owned(snapshot.nodes.values()), caller.now())


@post("/users/{user_id:str}/suspend", status_code=200, responses=ERRORS, tags=["Users"])
async def suspend_user(caller: Caller, user_id: FromPath[str]) -> Nothing:
    """Let the devices of somebody neither see nor reach anybody."""
    await caller.engine.apply(users.suspend(_user_of(caller, user_id).id))
    return Nothing()


@post("/users/{user_id:str}/restore", status_code=200, responses=ERRORS, tags=["Users"])
async def restore_user(caller: Caller, user_id: FromPath[str]) -> Nothing:
    """Undo `suspend`."""
    await caller.engine.apply(users.restore(_user_of(caller, user_id).id))
    return Nothing()


@post("/users/{user_id:str}/delete", status_code=200, responses=ERRORS, tags=["Users"])
async def delete_user(caller: Caller, user_id: FromPath[str]) -> Nothing:
    """Remove somebody who has no devices."""
    await caller.engine.apply(users.delete(_user_of(caller, user_id).id))
    return Nothing()


@post("/users/{user_id:str}/role", status_code=200, responses=ERRORS, tags=["Users"])
async def set_role(caller: Caller, user_id: FromPath[str], data: JSONBody[SetRole]) -> Nothing:
    """Give somebody another role."""
    await caller.engine.apply(users.set_role(_user_of(caller, user_id).id, data.role))
    return Nothing()


HANDLERS: Final[list[HTTPRouteHandler]] = [
    list_users,
    create_user,
    get_user,
    suspend_user,
    restore_user,
    delete_user,
    set_role,
]


def _user_of(caller: Authenticated, text: str) -> Person:
    if text.isascii() and text.isdigit() and len(text) <= _ID_DIGITS:
        found = caller.snapshot.users.get(UserId(int(text)))
        if found is not None:
            return found
    raise NotFound("no such user")


def _owned(nodes: Iterable[Node]) -> dict[UserId, list[Node]]:
    owned: dict[UserId, list[Node]] = defaultdict(list)
    for node in nodes:
        if node.user is not None:
            owned[node.user].append(node)
    return owned


def _render(
    snapshot: Snapshot, user: Person, owned: Mapping[UserId, Sequence[Node]], now: datetime
) -> User:
    devices = owned.get(user.id, ())
    connected = any(snapshot.online(node.id) for node in devices)
    seen = [node.last_seen for node in devices if node.last_seen is not None]
    return User(
        id=str(user.id),
        display_name=user.display_name,
        login_name=user.login,
        tailnet_id=snapshot.tailnet,
        created=user.created,
        role=user.role,
        status="suspended" if user.suspended else "active",
        device_count=len(devices),
        last_seen=now if connected else max(seen, default=_NEVER),
        currently_connected=connected,
        declared=user.declared,
    )
