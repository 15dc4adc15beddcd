from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from mergescale.domain.authkey import AuthKey
from mergescale.domain.record import Put
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.errors import Conflict, Forbidden, Invalid, NotFound, Refusal
from mergescale.kernel.ids import AuthKeyId, UserId
from mergescale.state import authkeys, users
from mergescale.state.authkeys import DEFAULT_LIFE, KEPT_AFTER_END, MAX_LIFE, Wanted
from support.access import table
from support.clock import START
from support.machines import decided, with_key
from support.worlds import step, world

K = AuthKeyId("k")
HASH = bytes(32)
LATER = START + timedelta(days=1)


def people() -> Snapshot:
    return world("alice@example.com: a", declaration=table(tags={"tag:web": []}))


def test_create_makes_the_key_as_wanted() -> None:
    """A key has what was asked for, ninety days unless told otherwise."""
    wanted = Wanted(user="Alice@example.com", reusable=True, description="ci")
    outcome = authkeys.create(K, HASH, wanted)(people(), START)
    expected = AuthKey(
        K, HASH, "ci", START, START + timedelta(days=90), user=UserId(1), reusable=True
    )
    assert (outcome.answer, outcome.writes) == (expected, [Put(expected)])
    tagged = Wanted(tags=("tag:web",), ephemeral=True, preauthorized=True, life=MAX_LIFE)
    assert authkeys.create(K, HASH, tagged)(people(), START).answer == AuthKey(
        K, HASH, "", START, START + MAX_LIFE, tags=("tag:web",), ephemeral=True, preauthorized=True
    )


@pytest.mark.parametrize(
    ("wanted", "error", "text"),
    [
        (Wanted(), Invalid, "it needs one of them"),
        (Wanted(user="alice@example.com", tags=("tag:web",)), Invalid, "it needs one of them"),
        (Wanted(tags=("tag:x",)), Invalid, 'tags "tag:x" are not declared'),
        (Wanted(user="eve@example.com"), NotFound, 'no user "eve@example.com"'),
        (Wanted(user="alice@example.com", life=timedelta(0)), Invalid, "lives up to 366 days"),
        (
            Wanted(user="alice@example.com", life=MAX_LIFE + timedelta(seconds=1)),
            Invalid,
            "lives up to 366 days",
        ),
        (Wanted(user="alice@example.com", description="x" * 201), Invalid, "up to 200 characters"),
    ],
)
def test_bad_wishes_are_refused(wanted: Wanted, error: type[Refusal], text: str) -> None:
    """A key belongs to one user or to declared tags, and lives within bounds."""
    with pytest.raises(error, match=text):
        authkeys.create(K, HASH, wanted)(people(), START)


def test_suspended_user_gets_no_key() -> None:
    """Nobody makes keys for a suspended user."""
    before, _ = decided(people(), users.suspend(UserId(1)), START)
    with pytest.raises(Forbidden, match="is suspended"):
        authkeys.create(K, HASH, Wanted(user="alice@example.com"))(before, START)


def test_key_id_is_used_once() -> None:
    """An id that is in use is refused, so that a key is never replaced."""
    with pytest.raises(Conflict, match="this key id is in use"):
        authkeys.create(K, HASH, Wanted(user="alice@example.com"))(
            with_key(people(), "k", START), START
        )


def test_revoke_once_and_delete() -> None:
    """Revoking keeps the first time; deleting forgets the key."""
    before = with_key(people(), "k", START)
    after, key = decided(before, authkeys.revoke(K), LATER)
    assert key == replace(before.auth_keys[K], revoked=LATER)
    assert authkeys.revoke(K)(after, LATER + timedelta(days=1)).writes == ()
    assert decided(after, authkeys.delete(K), LATER)[0].auth_keys == {}


def test_unknown_keys_are_refused() -> None:
    """There is nothing to revoke or delete at an unknown id."""
    for decision in (authkeys.revoke(K), authkeys.delete(K)):
        with pytest.raises(NotFound, match="no such auth key"):
            decision(people(), START)


def test_list_is_oldest_first() -> None:
    """Keys are listed in the order they were made."""
    before = with_key(with_key(people(), "b", LATER), "a", START)
    before = with_key(before, "c", START)
    assert [key.id for key in authkeys.listed(before)] == ["a", "c", "b"]


@pytest.mark.parametrize(
    ("change", "end"),
    [
        ({}, START + DEFAULT_LIFE),
        ({"revoked": LATER}, LATER),
        ({"uses": 1, "last_used": LATER}, LATER),
        ({"uses": 1, "last_used": LATER, "reusable": True}, START + DEFAULT_LIFE),
    ],
)
def test_ended_keys_are_kept_a_week(change: dict[str, object], end: object) -> None:
    """A key is listed for a week after it expired, was revoked or spent."""
    before = with_key(people(), "k", START)
    key = replace(before.auth_keys[K], **change)  # type: ignore[arg-type]
    before = step(before, [Put(key)])
    assert isinstance(end, type(START))
    assert authkeys.forgotten(before, end + KEPT_AFTER_END) == [key]
    assert authkeys.forgotten(before, end + KEPT_AFTER_END - timedelta(seconds=1)) == []
