"""Logins over SSH that need a check: who may ask, and for how long an approval counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from mergescale.domain.declaration import Declaration
from mergescale.domain.login import LoginState
from mergescale.domain.record import Put
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.sshcheck import SshCheck
from mergescale.kernel.errors import Conflict, NotFound
from mergescale.kernel.ids import LoginId, NodeId, UserId
from mergescale.kernel.keys import MachineKey
from mergescale.state import sshchecks, upkeep
from mergescale.state.sshchecks import (
    LIFE,
    MAX_CHECKS,
    MAX_PER_TARGET,
    REMEMBERED,
    Accepted,
    Refused,
    Waiting,
    approve,
    begins,
    expired,
    reject,
    waiting,
)
from support.clock import START
from support.policies import policy
from support.ssh import entry, ssh_text
from support.ssh_checks import asked, attempt, checked, waiting_at
from support.worlds import deployment, named, step

ID = LoginId("check-1")
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def approved(before: Snapshot, check: LoginId = ID, now: datetime = START) -> Snapshot:
    return approve(check)(before, now).snapshot


def test_the_first_attempt_makes_a_check() -> None:
    """It says who wants in where as whom, and waits for a person for half an hour."""
    before = checked()
    after, answer = asked(before)
    check = SshCheck(
        ID,
        named(before, "laptop").id,
        UserId(1),
        named(before, "w1").id,
        "ubuntu",
        START,
        START + LIFE,
    )
    assert answer == Waiting(check)
    assert dict(after.ssh_checks) == {ID: check}
    assert waiting(after, START) == [check]


def test_asking_again_waits_at_the_same_check() -> None:
    """With or without its id; another user, source or destination is another check."""
    after, first = asked(checked())
    again = attempt(after, fresh="check-2")
    for one in (again, waiting_at(again, ID), waiting_at(again, LoginId("forgotten"))):
        assert asked(after, one) == (after, first)
        assert begins(one)(after, START).answer is False
    for other in ({"user": "deploy"}, {"source": "phone"}, {"target": "w2"}, {"source": "desk"}):
        one = attempt(after, fresh="check-2", **other)  # type: ignore[arg-type]
        assert begins(one)(after, START).answer is True
        assert len(asked(after, one)[0].ssh_checks) == 2


def test_an_approval_counts_for_the_check_period() -> None:
    """Without a question, until the period is over; then a new check begins."""
    after = approved(asked(checked())[0])
    rule = after.access.ssh_rules(after.slot(named(after, "w1").id))[0]
    for when in (START, START + HOUR - SECOND):
        assert asked(after, attempt(after, fresh="check-2"), when) == (after, Accepted(rule))
    later, answer = asked(after, attempt(after, fresh="check-2"), START + HOUR)
    assert isinstance(answer, Waiting)
    assert (answer.check.id, len(later.ssh_checks)) == (LoginId("check-2"), 2)


@pytest.mark.parametrize(
    "other",
    [
        {"user": "deploy"},
        {"user": "root"},
        {"source": "phone"},
        {"source": "desk"},
        {"target": "w2"},
    ],
)
def test_an_approval_counts_for_nothing_else(other: dict[str, str]) -> None:
    """Another local user, source or destination has to be approved by itself, id or not."""
    after = approved(asked(checked())[0])
    for check in (None, ID):
        one = attempt(after, fresh="check-2", check=check, **other)
        assert isinstance(asked(after, one)[1], Waiting)


def test_an_approval_is_of_the_owner_of_that_time() -> None:
    """A device that is somebody else's by now has to be approved anew."""
    after = approved(asked(checked())[0])
    moved = step(after, [Put(replace(named(after, "laptop"), user=UserId(2)))])
    assert isinstance(asked(moved, attempt(moved, fresh="check-2"))[1], Waiting)


def test_a_change_of_policy_leaves_approvals_alone() -> None:
    """Unless it asks more often; what it does not let in any more is refused."""
    after = approved(asked(checked())[0])

    def under(*rules: dict[str, object]) -> Snapshot:
        return step(after, [Put(deployment(Declaration(policy(ssh_text(*rules)))))])

    wider = entry("autogroup:member", "tag:web", "ubuntu root", action="check", checkPeriod="12h")
    sooner = {**wider, "checkPeriod": "1m"}
    late = START + 2 * HOUR
    assert isinstance(asked(under(wider), now=late)[1], Accepted)
    assert isinstance(
        asked(under(sooner), attempt(after, fresh="c2"), START + timedelta(minutes=1))[1], Waiting
    )
    waited = waiting_at(attempt(after, fresh="c2"), ID)
    assert isinstance(
        asked(under(sooner), waited, START + timedelta(minutes=1) - SECOND)[1], Accepted
    )
    assert isinstance(asked(under(sooner), waited, START + timedelta(minutes=1))[1], Waiting)
    assert isinstance(asked(under(wider, sooner), attempt(after, fresh="c2"), late)[1], Waiting)
    assert isinstance(
        asked(under(entry("tag:db", "tag:web", "ubuntu", action="check")))[1], Refused
    )


def test_always_asks_each_time() -> None:
    """An approval lets in the attempt that waited for it, once, and not for long."""
    one = attempt(checked(), user="root")
    after = approved(asked(checked(), one)[0])
    assert isinstance(asked(after, replace(one, fresh=LoginId("check-2")))[1], Waiting)
    waited = waiting_at(one, ID)
    assert isinstance(asked(after, waited, START + LIFE)[1], Waiting)
    used, answer = asked(after, waited, START + LIFE - SECOND)
    assert isinstance(answer, Accepted)
    assert dict(used.ssh_checks) == {}
    assert isinstance(asked(used, waited)[1], Waiting)


def test_a_rejection_is_told_to_who_waits() -> None:
    """And to nobody else: a new attempt may be approved."""
    one = attempt(checked())
    after = reject(ID)(asked(checked(), one)[0], START).snapshot
    assert asked(after, waiting_at(one, ID)) == (after, Refused("the login was rejected"))
    assert isinstance(asked(after, replace(one, fresh=LoginId("check-2")))[1], Waiting)


@pytest.mark.parametrize(
    ("source", "target", "user", "why"),
    [
        ("d1", "w1", "root", "only devices of people can be checked"),
        ("laptop", "d1", "ubuntu", "the policy does not let this device in after a check"),
        ("w2", "w1", "ubuntu", "only devices of people can be checked"),
        ("laptop", "desk", "ubuntu", "the policy does not let this device in after a check"),
    ],
)
def test_who_needs_no_check_gets_none(source: str, target: str, user: str, why: str) -> None:
    """Tagged sources belong to nobody, and without a rule there is nothing to approve."""
    before = checked()
    assert asked(before, attempt(before, source, target, user)) == (before, Refused(why))


def test_root_needs_a_rule_of_its_own() -> None:
    """Any user but root is not root."""
    rule = entry("group:eng", "tag:web", "autogroup:nonroot", action="check")
    before = checked(rule)
    assert isinstance(asked(before, attempt(before, user="anybody"))[1], Waiting)
    assert isinstance(asked(before, attempt(before, user="root"))[1], Refused)


def test_only_the_destination_asks() -> None:
    """Node ids are public: another machine gets no answer, nor does one about nobody."""
    before = checked()
    one = attempt(before)
    for stranger in (
        replace(one, machine=MachineKey(b"s" * 32)),
        replace(one, machine=named(before, "laptop").machine_key),
        replace(one, target=NodeId(99)),
    ):
        with pytest.raises(NotFound):
            asked(before, stranger)
    assert isinstance(asked(before, replace(one, source=NodeId(99)))[1], Refused)


def test_a_check_is_decided_once_and_in_time() -> None:
    """Neither later nor again, nor one that does not exist."""
    after, _ = asked(checked())
    with pytest.raises(NotFound):
        approve(ID)(after, START + LIFE)
    with pytest.raises(NotFound):
        approve(LoginId("other"))(after, START)
    for decided in (approved(after), reject(ID)(after, START).snapshot):
        for again in (approve, reject):
            with pytest.raises(Conflict):
                again(ID)(decided, START)
        assert waiting(decided, START) == []


def test_checks_are_forgotten() -> None:
    """Pending ones when nobody waits any more, approved ones after the longest period."""
    pending, _ = asked(checked())
    remembered = approved(pending)
    assert remembered.ssh_checks[ID].state is LoginState.APPROVED
    for snapshot, end in ((pending, START + LIFE), (remembered, START + REMEMBERED)):
        assert expired(snapshot, end - SECOND) == []
        assert not upkeep.due(snapshot, end - SECOND)
        assert upkeep.due(snapshot, end)
        assert dict(upkeep.sweep()(snapshot, end).snapshot.ssh_checks) == {}


def test_pending_checks_are_bounded() -> None:
    """A destination drives out its own oldest, and a full tailnet the oldest of all."""
    before = checked()
    check = asked(before)[0].ssh_checks[ID]
    own = [
        Put(replace(check, id=LoginId(f"own-{n}"), local_user=f"u{n}", created=START + n * SECOND))
        for n in range(MAX_PER_TARGET)
    ]
    full = step(before, own)
    after, _ = asked(full, attempt(full))
    assert set(full.ssh_checks) - set(after.ssh_checks) == {"own-0"}
    others = [
        Put(replace(check, id=LoginId(f"o{n}"), target=NodeId(99), created=START - n * SECOND))
        for n in range(MAX_CHECKS)
    ]
    full = step(before, others)
    after, _ = asked(full, attempt(full))
    assert set(full.ssh_checks) - set(after.ssh_checks) == {f"o{MAX_CHECKS - 1}"}
    assert sshchecks.MAX_PER_TARGET < MAX_CHECKS
