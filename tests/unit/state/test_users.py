from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from mergescale.domain.declaration import DeclaredUser
from mergescale.domain.record import Counters, Drop, Put
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import Role, User
from mergescale.kernel.errors import Conflict, Invalid, NotFound
from mergescale.kernel.ids import AuthKeyId, NodeId, UserId
from mergescale.state import nodes, users
from mergescale.state.outcome import Decision
from support.clock import START
from support.machines import decided, with_key
from support.worlds import step, world

LATER = START + timedelta(days=1)
ALICE, BOB = UserId(1), UserId(2)


def people() -> Snapshot:
    return world("alice@example.com: a, b; bob@example.com: ")


def declared(login: str, role: Role = Role.MEMBER, *, suspended: bool = False) -> DeclaredUser:
    return DeclaredUser(login, "", role, suspended)


def test_create_makes_a_person() -> None:
    """A new person has the next id, and a display name from the login if none is given."""
    outcome = users.create("Eve@example.com")(people(), LATER)
    eve = User(UserId(3), "Eve@example.com", "Eve", Role.MEMBER, LATER)
    assert outcome.answer == eve
    counters = replace(people().counters, next_user=UserId(4))
    assert outcome.writes == [Put(counters), Put(eve)]
    admin = users.create("x@", "X Y", Role.ADMIN)(people(), LATER).answer
    assert (admin.login, admin.display_name, admin.role) == ("x@", "X Y", Role.ADMIN)


@pytest.mark.parametrize(
    "login",
    [
        "",
        "alice",
        "@example.com",
        "a b@c",
        "a@b@c",
        "tag:web",
        "group:a@b",
        "*@example.com",
        "a@b,c@d",
        "a@\nb",
        "a\u200b@b",
        '"a"@b',
        "a" * 250 + "@b.cd",
    ],
)
def test_only_what_a_policy_can_name_is_a_login(login: str) -> None:
    """A login has one `@` and nothing that a policy reads as something else."""
    with pytest.raises(Invalid, match="is not a login"):
        users.create(login)(people(), START)


def test_logins_are_unique_without_case() -> None:
    """Two logins that differ in case are one."""
    with pytest.raises(Conflict, match=r'there is a user "ALICE@Example\.com" already'):
        users.create("ALICE@Example.com")(people(), START)


def test_suspending_names_the_users_nodes() -> None:
    """Suspending keeps nodes and keys, and names the nodes so that their access is resolved."""
    outcome = users.suspend(ALICE)(people(), START)
    assert outcome.answer == replace(people().users[ALICE], suspended=True)
    assert outcome.change.nodes == {1, 2}
    assert not outcome.snapshot.takes_part(outcome.snapshot.nodes[NodeId(1)])
    back = users.restore(ALICE)(outcome.snapshot, START)
    assert back.answer == people().users[ALICE]
    assert users.restore(ALICE)(people(), START).writes == ()


def test_role_names_the_users_nodes() -> None:
    """Selectors match by role, so a new role names the nodes too."""
    outcome = users.set_role(ALICE, Role.ADMIN)(people(), START)
    assert outcome.answer.role is Role.ADMIN
    assert outcome.change.nodes == {1, 2}


def test_delete_is_refused_while_nodes_remain() -> None:
    """A person who owns nodes stays; one without goes, and the keys that would make nodes too."""
    before = with_key(people(), "k", START)
    with pytest.raises(Conflict, match=r'"alice@example\.com" owns 2 nodes, "a" among them'):
        users.delete(ALICE)(before, START)
    for name in ("a", "b"):
        before, _ = decided(before, nodes.delete(before.names[name]), START)
    outcome = users.delete(ALICE)(before, START)
    key = before.auth_keys[AuthKeyId("k")]
    assert outcome.writes == [Drop(key), Drop(before.users[ALICE])]
    assert set(outcome.snapshot.by_login) == {"bob@example.com"}
    assert users.create("alice@example.com")(outcome.snapshot, START).answer.id == 3


def test_unknown_users_are_refused() -> None:
    """Every decision about a user who does not exist says so."""
    for decision in (
        users.suspend(UserId(9)),
        users.restore(UserId(9)),
        users.set_role(UserId(9), Role.OWNER),
        users.delete(UserId(9)),
    ):
        with pytest.raises(NotFound, match="no such user"):
            decision(people(), START)


@pytest.mark.parametrize(
    "decision",
    [users.suspend(BOB), users.restore(BOB), users.set_role(BOB, Role.ADMIN), users.delete(BOB)],
)
def test_declared_users_are_changed_in_the_repository(decision: Decision[User]) -> None:
    """What the next commit would undo is refused here."""
    before = people()
    before = step(before, [Put(replace(before.users[BOB], declared=True))])
    with pytest.raises(Conflict, match=r'"bob@example\.com" is declared in the repository'):
        decision(before, START)


# ---------------------------------------------------------------------------- reconciling


def test_reconcile_makes_and_changes_people() -> None:
    """Declared people are made or taken over, compared without case; others are left alone."""
    wanted = [declared("carol@example.com"), declared("ALICE@example.com", Role.OWNER)]
    writes = users.reconcile(people(), wanted, LATER)
    alice = people().users[ALICE]
    assert writes == [
        Put(Counters(people().counters.next_node, UserId(4))),
        Put(User(UserId(3), "carol@example.com", "carol", Role.MEMBER, LATER, declared=True)),
        Put(
            replace(
                alice,
                login="ALICE@example.com",
                display_name="ALICE",
                role=Role.OWNER,
                declared=True,
            )
        ),
    ]
    assert users.reconcile(step(people(), writes), wanted, LATER) == []


def test_undeclared_people_are_suspended_and_come_back() -> None:
    """Who was declared and no longer is gets suspended; named again, restored."""
    wanted = [declared("alice@example.com"), declared("bob@example.com")]
    before = step(people(), users.reconcile(people(), wanted, START))
    bob = before.users[BOB]
    writes = users.reconcile(before, wanted[:1], LATER)
    assert writes == [Put(replace(bob, declared=False, suspended=True))]
    without = step(before, writes)
    assert users.reconcile(without, wanted[:1], LATER) == []
    assert users.reconcile(without, wanted, LATER) == [Put(bob)]


def test_declared_suspension_holds() -> None:
    """The repository may suspend a person by name."""
    writes = users.reconcile(people(), [declared("bob@example.com", suspended=True)], START)
    assert [write.record for write in writes] == [
        replace(people().users[BOB], display_name="bob", declared=True, suspended=True)
    ]


def test_no_users_file_manages_nobody() -> None:
    """Without a users file people stay as they are and are managed here again."""
    wanted = [declared("alice@example.com"), declared("bob@example.com", suspended=True)]
    before = step(people(), users.reconcile(people(), wanted, START))
    assert users.reconcile(before, None, START) == [
        Put(replace(before.users[ALICE], declared=False)),
        Put(replace(before.users[BOB], declared=False)),
    ]
    assert users.reconcile(people(), None, START) == []


def test_twice_declared_is_one_person() -> None:
    """A login that is declared twice makes one person, as declared first."""
    twice = [declared("carol@example.com", Role.ADMIN), declared("Carol@example.com")]
    made = [w.record for w in users.reconcile(people(), twice, START) if isinstance(w.record, User)]
    assert [(user.login, user.role) for user in made] == [("carol@example.com", Role.ADMIN)]
