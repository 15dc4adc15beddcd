from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from mergescale.domain.login import LoginState, PendingLogin
from mergescale.domain.record import Put
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.tailnet import Settings
from mergescale.kernel.errors import Conflict, Forbidden, Invalid, NotFound, Refusal
from mergescale.kernel.ids import LoginId, UserId
from mergescale.kernel.keys import NodeKey
from mergescale.state import logins, nodes, users
from mergescale.state.logins import LIFE, MAX_LOGINS, MAX_PER_MACHINE, Approval
from mergescale.state.registration import LoginNeeded, Refused, Registered, register
from support.access import table
from support.clock import START
from support.machines import Machine, decided, hostinfo, with_key
from support.worlds import step, world

ALICE = UserId(1)
LAPTOP, PHONE = Machine("laptop"), Machine("phone")
BY_ALICE = Approval("nSTABLECNTRL", user="Alice@Example.com")
LATER = START + timedelta(minutes=10)


def people(**settings: object) -> Snapshot:
    declaration = table(
        tags={"tag:web": ["alice@example.com"], "tag:db": []},
        settings=Settings(**settings),  # type: ignore[arg-type]
    )
    return world("alice@example.com: ; bob@example.com: ", declaration=declaration)


def asked(before: Snapshot, machine: Machine = LAPTOP, **kind: object) -> tuple[Snapshot, LoginId]:
    request = machine.asks(**kind)  # type: ignore[arg-type]
    after, answer = decided(before, register(request), START)
    assert isinstance(answer, LoginNeeded), answer
    return after, answer.login_id


def test_asking_makes_a_pending_login() -> None:
    """A machine that shows nothing waits at a login which remembers all it said."""
    request = LAPTOP.asks(number=1, old=0, ephemeral=True)
    after, answer = decided(people(), register(request), START)
    assert answer == LoginNeeded(request.fresh.login_id)
    assert dict(after.logins) == {
        request.fresh.login_id: PendingLogin(
            id=request.fresh.login_id,
            machine_key=LAPTOP.key,
            node_key=LAPTOP.node_key(1),
            old_node_key=LAPTOP.node_key(0),
            hostinfo=request.hostinfo.raw,
            ephemeral=True,
            capability_version=130,
            created=START,
            expires=START + LIFE,
        )
    }
    assert not after.nodes


def test_asking_again_stays_at_the_same_login() -> None:
    """The same machine and node key wait at one login, with or without a follow-up."""
    before, login = asked(people())
    for followup in (None, login, LoginId("unknown")):
        request = replace(LAPTOP.asks(followup=followup), fresh=PHONE.asks().fresh)
        outcome = register(request)(before, LATER)
        assert (outcome.answer, outcome.writes) == (LoginNeeded(login), ())


def test_followup_of_another_machine_gets_its_own_login() -> None:
    """Who follows up another machine's login is not told about it, pending, done or rejected."""
    before, login = asked(people())
    approved, _ = decided(before, logins.approve(login, BY_ALICE), START)
    rejected, _ = decided(before, logins.reject(login), START)
    for state in (before, approved, rejected):
        request = PHONE.asks(followup=login)
        assert decided(state, register(request), START)[1] == LoginNeeded(request.fresh.login_id)


def test_approved_login_answers_with_the_node() -> None:
    """After approval each follow-up is a success, even when the login itself was forgotten."""
    before, login = asked(people())
    after, node = decided(before, logins.approve(login, BY_ALICE), LATER)
    assert (node.user, node.name, node.stable_id) == (ALICE, "laptop", "nSTABLECNTRL")
    assert node.key_expiry == LATER + timedelta(days=180)
    decision = after.logins[login]
    assert decision == replace(before.logins[login], state=LoginState.APPROVED, node=node.id)
    forgotten = replace(after, logins={})
    for state in (after, forgotten):
        outcome = register(LAPTOP.asks(followup=login))(state, LATER)
        assert outcome.answer == Registered(node, after.users[ALICE])
        assert outcome.writes == ()


def test_rejected_login_is_told() -> None:
    """A rejected machine is told so by its follow-up; a new try without it asks again."""
    before, login = asked(people())
    after, rejected = decided(before, logins.reject(login), START)
    assert rejected.state is LoginState.REJECTED
    assert register(LAPTOP.asks(followup=login))(after, START).answer == Refused(
        "the login was rejected"
    )
    fresh = LAPTOP.asks()
    retry = replace(fresh, fresh=replace(fresh.fresh, login_id=LoginId("again")))
    assert decided(after, register(retry), START)[1] == LoginNeeded(LoginId("again"))


def test_expired_login_gives_way_to_a_new_one() -> None:
    """A follow-up of an expired login gets another one, not an error."""
    before, login = asked(people())
    request = LAPTOP.asks(followup=login)
    after, answer = decided(before, register(request), START + LIFE)
    assert answer == LoginNeeded(request.fresh.login_id)
    assert request.fresh.login_id != login
    assert [entry.id for entry in logins.waiting(after, START + LIFE)] == [answer.login_id]
    assert [entry.id for entry in logins.expired(after, START + LIFE)] == [login]


def test_login_of_a_deleted_node_starts_anew() -> None:
    """When the node that a login made is deleted, its machine needs a new login."""
    before, login = asked(people())
    before, node = decided(before, logins.approve(login, BY_ALICE), START)
    before, _ = decided(before, nodes.delete(node.id), START)
    request = LAPTOP.asks(followup=login)
    assert register(request)(before, START).answer == LoginNeeded(request.fresh.login_id)


@pytest.mark.parametrize("first", ["approved", "rejected"])
def test_decided_login_stays_decided(first: str) -> None:
    """Only a pending login can be approved or rejected."""
    before, login = asked(people())
    if first == "approved":
        before, _ = decided(before, logins.approve(login, BY_ALICE), START)
    else:
        before, _ = decided(before, logins.reject(login), START)
    said = f"this login was {first} already"
    with pytest.raises(Conflict, match=said):
        logins.approve(login, BY_ALICE)(before, START)
    with pytest.raises(Conflict, match=said):
        logins.reject(login)(before, START)


@pytest.mark.parametrize(
    ("approval", "error", "text"),
    [
        (Approval("s", user="eve@example.com"), NotFound, 'no user "eve@example.com"'),
        (Approval("s"), Invalid, "a user or tags must own the node"),
        (Approval("s", user="alice@example.com", tags=("tag:db",)), Invalid, "not to both"),
        (Approval("s", tags=("tag:x",)), Invalid, 'tags "tag:x" are not declared'),
    ],
)
def test_bad_approvals_are_refused(approval: Approval, error: type[Refusal], text: str) -> None:
    """An approval names one owner who exists, or tags that are declared."""
    before, login = asked(people())
    with pytest.raises(error, match=text):
        logins.approve(login, approval)(before, START)


def test_unknown_and_expired_logins_cannot_be_approved() -> None:
    """There is nothing to approve at an unknown or expired login."""
    before, login = asked(people())
    for login_id, now in ((LoginId("x"), START), (login, START + LIFE)):
        with pytest.raises(NotFound, match="no such login, or it has expired"):
            logins.approve(login_id, BY_ALICE)(before, now)


def test_suspended_user_gets_no_node() -> None:
    """A suspended user cannot be given a node."""
    before, login = asked(people())
    before, _ = decided(before, users.suspend(ALICE), START)
    with pytest.raises(Forbidden, match="is suspended"):
        logins.approve(login, BY_ALICE)(before, START)


def test_requested_tags_are_all_or_nothing() -> None:
    """Tags that a machine asks for come if its user may give all of them; else it is refused."""
    good = hostinfo("a", RequestTags=["tag:web"])
    before, login = asked(people(), hostinfo=good)
    _, node = decided(before, logins.approve(login, BY_ALICE), START)
    assert (node.user, node.tags, node.key_expiry) == (None, ("tag:web",), None)
    bad = hostinfo("a", RequestTags=["tag:web", "tag:db"])
    before, login = asked(people(), hostinfo=bad)
    with pytest.raises(Forbidden, match='requested tags "tag:db" are not permitted'):
        logins.approve(login, BY_ALICE)(before, START)


def test_operator_gives_any_declared_tags() -> None:
    """Tags that an operator names need only be declared."""
    before, login = asked(people())
    _, node = decided(before, logins.approve(login, Approval("s", tags=("tag:db",))), START)
    assert (node.user, node.tags) == (None, ("tag:db",))


@pytest.mark.parametrize("preauthorized", [True, False])
def test_approving_a_login_is_not_approving_the_device(preauthorized: bool) -> None:
    """Where devices need approval a login leaves that open, unless both are given at once."""
    before, login = asked(people(device_approval=True))
    approval = replace(BY_ALICE, preauthorized=preauthorized)
    assert decided(before, logins.approve(login, approval), START)[1].authorized is preauthorized


def test_rotation_by_login_keeps_identity() -> None:
    """An interactive login with a new node key is the node of before, with the old key until then."""
    before, login = asked(people())
    before, node = decided(before, logins.approve(login, BY_ALICE), START)
    before, login = asked(before, number=1, old=0)
    assert before.node_of(LAPTOP.key, LAPTOP.node_key(0)) == node
    after, back = decided(before, logins.approve(login, BY_ALICE), LATER)
    assert back == replace(
        node, node_key=LAPTOP.node_key(1), key_expiry=LATER + timedelta(days=180)
    )
    assert list(after.nodes) == [node.id]


def test_node_key_taken_meanwhile_is_a_conflict() -> None:
    """A key that became another machine's while the login was open is not given twice (S2)."""
    before, login = asked(people())
    stolen = replace(before.logins[login], node_key=NodeKey(PHONE.node_key().raw))
    before = step(before, [Put(stolen)])
    before = with_key(before, "k", START)
    before, _ = decided(before, register(PHONE.asks(auth="k")), START)
    with pytest.raises(Conflict, match="this node key belongs to another node"):
        logins.approve(login, BY_ALICE)(before, START)


def test_pending_logins_are_bounded() -> None:
    """However many machines ask, the oldest pending one goes, decided ones stay (S9)."""
    before, decided_one = asked(people(), Machine("first"))
    before, _ = decided(before, logins.reject(decided_one), START)
    ids = []
    for number in range(MAX_LOGINS + 20):
        request = Machine(f"m{number}").asks()
        outcome = register(request)(before, START + timedelta(seconds=number))
        before = outcome.snapshot
        ids.append(request.fresh.login_id)
    assert len(before.logins) == MAX_LOGINS
    assert set(before.logins) == {decided_one, *ids[-(MAX_LOGINS - 1) :]}


def test_one_machine_drives_out_only_its_own() -> None:
    """A machine that asks with key after key replaces its own logins, nobody else's."""
    before, other = asked(people(), PHONE)
    for number in range(MAX_PER_MACHINE + 3):
        now = START + timedelta(seconds=number)
        before, _ = decided(before, register(LAPTOP.asks(number=number)), now)
    kept = {LAPTOP.asks(number=n).fresh.login_id for n in range(3, MAX_PER_MACHINE + 3)}
    assert set(before.logins) == {other, *kept}


def test_waiting_is_oldest_first() -> None:
    """Who waited longest is listed first."""
    before, first = asked(people(), PHONE)
    before, second = decided(before, register(LAPTOP.asks()), LATER)
    assert isinstance(second, LoginNeeded)
    assert [login.id for login in logins.waiting(before, LATER)] == [first, second.login_id]
