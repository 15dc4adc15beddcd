from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from mergescale.domain.apikey import ApiKey
from mergescale.domain.record import Put
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.errors import Conflict, Invalid, NotFound
from mergescale.kernel.ids import ApiKeyId
from mergescale.state import apikeys
from mergescale.state.apikeys import DEFAULT_LIFE, KEPT_AFTER_END, MAX_LIFE, USE_NOTED_EVERY
from support.clock import START
from support.machines import decided
from support.worlds import step, world

K = ApiKeyId("k")
HASH = bytes(32)
LATER = START + timedelta(days=1)


def one(**change: object) -> Snapshot:
    key = ApiKey(K, HASH, "ci", START, START + DEFAULT_LIFE)
    return step(world(""), [Put(replace(key, **change))])  # type: ignore[arg-type]


def test_create_makes_the_token() -> None:
    """A token lives ninety days, as long as told, or for ever."""
    outcome = apikeys.create(K, HASH, "ci")(world(""), START)
    expected = ApiKey(K, HASH, "ci", START, START + timedelta(days=90))
    assert (outcome.answer, outcome.writes) == (expected, [Put(expected)])
    assert apikeys.create(K, HASH, life=MAX_LIFE)(world(""), START).answer.expires is not None
    assert apikeys.create(K, HASH, life=None)(world(""), START).answer.expires is None


@pytest.mark.parametrize("life", [timedelta(0), MAX_LIFE + timedelta(seconds=1)])
def test_bounds_are_kept(life: timedelta) -> None:
    """A life or a description out of bounds is refused, and so is an id in use."""
    with pytest.raises(Invalid, match="lives up to 366 days"):
        apikeys.create(K, HASH, life=life)(world(""), START)
    with pytest.raises(Invalid, match="up to 200 characters"):
        apikeys.create(K, HASH, "x" * 201)(world(""), START)
    with pytest.raises(Conflict, match="this token id is in use"):
        apikeys.create(K, HASH)(one(), START)


def test_use_is_noted_once_a_minute() -> None:
    """A busy token costs a write a minute, not one per request."""
    before, key = decided(one(), apikeys.used(K), START)
    assert key.last_used == START
    soon = START + USE_NOTED_EVERY - timedelta(microseconds=1)
    assert not apikeys.use_is_news(key, soon)
    assert apikeys.used(K)(before, soon).writes == ()
    assert decided(before, apikeys.used(K), START + USE_NOTED_EVERY)[1].last_used == (
        START + USE_NOTED_EVERY
    )


def test_revoke_once_and_delete() -> None:
    """Revoking keeps the first time; deleting forgets the token."""
    before, key = decided(one(), apikeys.revoke(K), LATER)
    assert key.revoked == LATER
    assert apikeys.revoke(K)(before, LATER + timedelta(days=1)).writes == ()
    assert decided(before, apikeys.delete(K), LATER)[0].api_keys == {}


def test_unknown_tokens_are_refused() -> None:
    """There is nothing to use, revoke or delete at an unknown id."""
    for decision in (apikeys.used(K), apikeys.revoke(K), apikeys.delete(K)):
        with pytest.raises(NotFound, match="no such API token"):
            decision(world(""), START)


def test_list_is_oldest_first() -> None:
    """Tokens are listed in the order they were made."""
    newer = ApiKey(ApiKeyId("a"), HASH, "", LATER)
    before = step(one(), [Put(newer)])
    assert apikeys.listed(before) == [before.api_keys[K], newer]


@pytest.mark.parametrize(
    ("change", "end"),
    [({}, START + DEFAULT_LIFE), ({"revoked": LATER}, LATER), ({"expires": None}, None)],
)
def test_ended_tokens_are_kept_a_week(change: dict[str, object], end: datetime | None) -> None:
    """A token is listed for a week after its end; one without end stays."""
    before = one(**change)
    if end is None:
        assert apikeys.forgotten(before, START + timedelta(days=9999)) == []
    else:
        assert apikeys.forgotten(before, end + KEPT_AFTER_END) == [before.api_keys[K]]
        assert apikeys.forgotten(before, end + KEPT_AFTER_END - timedelta(seconds=1)) == []
