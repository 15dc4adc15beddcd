"""People: made by an operator, or declared by ``users.hujson`` and then managed there only."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Final

from mergescale.domain.declaration import DeclaredUser
from mergescale.domain.record import Counters, Drop, Put, Write
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import Role, User
from mergescale.kernel.errors import Conflict, Invalid
from mergescale.kernel.ids import UserId
from mergescale.state import lookup
from mergescale.state.outcome import Decision, Outcome, outcome, replaced

#: LIMIT: RFC 5321 section 4.5.3.1.3, octets of a path.
MAX_LOGIN_CHARS: Final = 254
#: What a policy can name: something with one ``@``, as in ``ana@example.com`` or ``ana@``. Without
#: it a login could be taken for a host, a group or a tag.
_LOGIN: Final = re.compile(r"""[^\s@:,*"'\\]+@[^\s@:,*"'\\]*""")


def create(login: str, display_name: str = "", role: Role = Role.MEMBER) -> Decision[User]:
    """Make a person known.

    Raises (when carried out):
        Invalid: not a login.
        Conflict: the login is taken; case does not count.
    """

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[User]:
        check_login(login)
        if snapshot.user_by_login(login) is not None:
            raise Conflict(f'there is a user "{login}" already')
        user_id = snapshot.counters.next_user
        user = User(user_id, login, display_name or _name_of(login), role, now)
        return outcome(snapshot, [_counted(snapshot.counters, user_id), Put(user)], user)

    return decide


def suspend(user_id: UserId) -> Decision[User]:
    """Keep the user's nodes and keys, but let none of them reach or see anybody."""
    return _suspended(user_id, suspended=True)


def restore(user_id: UserId) -> Decision[User]:
    """Undo `suspend`."""
    return _suspended(user_id, suspended=False)


def set_role(user_id: UserId, role: Role) -> Decision[User]:
    """Give the user another role."""

    def decide(snapshot: Snapshot, _: datetime) -> Outcome[User]:
        user = _managed_here(lookup.user(snapshot, user_id))
        return replaced(snapshot, user, replace(user, role=role))

    return decide


def delete(user_id: UserId) -> Decision[User]:
    """Remove a person who owns no nodes, and the pre-auth keys that would make some.

    Raises (when carried out):
        Conflict: the user owns nodes, or is declared.
    """

    def decide(snapshot: Snapshot, _: datetime) -> Outcome[User]:
        user = _managed_here(lookup.user(snapshot, user_id))
        owned = sorted(node.name for node in snapshot.nodes.values() if node.user == user_id)
        if owned:
            raise Conflict(
                f'"{user.login}" owns {len(owned)} nodes, "{owned[0]}" among them',
                help="delete or tag them first",
            )
        keys = [Drop(key) for key in snapshot.auth_keys.values() if key.user == user_id]
        return outcome(snapshot, [*keys, Drop(user)], user)

    return decide


def check_login(login: str) -> None:
    """Raise `Invalid` unless a policy could name this login."""
    if len(login) > MAX_LOGIN_CHARS or not login.isprintable() or not _LOGIN.fullmatch(login):
        raise Invalid(
            f'"{login[:80]}" is not a login', help='a login has one "@", as in `ana@example.com`'
        )


def reconcile(
    snapshot: Snapshot, declared: Iterable[DeclaredUser] | None, now: datetime
) -> list[Write]:
    """Return the writes that make people what the repository says.

    Who is no longer declared is suspended, not removed: the nodes are still theirs, and the next
    commit may name them again. People whom no commit ever named are left alone. Without a
    ``users.hujson`` (None) nobody is managed by git any more, and everybody stays as they are.
    """
    if declared is None:
        return [Put(replace(u, declared=False)) for u in snapshot.users.values() if u.declared]
    writes: list[Write] = []
    next_user = snapshot.counters.next_user
    named: set[str] = set()
    for person in declared:
        folded = person.login.casefold()
        if folded in named:
            continue
        named.add(folded)
        before = snapshot.user_by_login(person.login)
        after = _as_declared(person, before, next_user, now)
        if before is None:
            next_user = UserId(next_user + 1)
        if after != before:
            writes.append(Put(after))
    writes += [
        Put(replace(user, declared=False, suspended=True))
        for user in snapshot.users.values()
        if user.declared and user.login.casefold() not in named
    ]
    if next_user != snapshot.counters.next_user:
        writes.insert(0, Put(replace(snapshot.counters, next_user=next_user)))
    return writes


def _as_declared(
    person: DeclaredUser, before: User | None, fresh_id: UserId, now: datetime
) -> User:
    return User(
        id=fresh_id if before is None else before.id,
        login=person.login,
        display_name=person.display_name or _name_of(person.login),
        role=person.role,
        created=now if before is None else before.created,
        declared=True,
        suspended=person.suspended,
    )


def _suspended(user_id: UserId, *, suspended: bool) -> Decision[User]:
    def decide(snapshot: Snapshot, _: datetime) -> Outcome[User]:
        user = _managed_here(lookup.user(snapshot, user_id))
        return replaced(snapshot, user, replace(user, suspended=suspended))

    return decide


def _managed_here(user: User) -> User:
    """Return the user; raise `Conflict` if the next commit would undo whatever is done here."""
    if user.declared:
        raise Conflict(
            f'"{user.login}" is declared in the repository', help="change `users.hujson` instead"
        )
    return user


def _name_of(login: str) -> str:
    return login.partition("@")[0]


def _counted(counters: Counters, used: UserId) -> Put:
    return Put(replace(counters, next_user=UserId(used + 1)))
