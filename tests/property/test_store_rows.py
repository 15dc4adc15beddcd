"""Every record comes back from its row as it went in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, insert, select

from mergescale.domain.apikey import ApiKey
from mergescale.domain.authkey import AuthKey
from mergescale.domain.declaration import Deployment
from mergescale.domain.login import LoginState, PendingLogin
from mergescale.domain.node import Node
from mergescale.domain.posture import CustomAttribute
from mergescale.domain.prefixes import sort_key
from mergescale.domain.record import Counters, Following, Presence, Primary, Record, key_of
from mergescale.domain.sshcheck import SshCheck
from mergescale.domain.user import Role, User
from mergescale.kernel.ids import MAX_ID
from mergescale.kernel.keys import DiscoKey, MachineKey, NodeKey
from mergescale.store.mapping import (
    TABLES,
    Kind,
    deployment_from_row,
    from_row,
    kind_of,
    to_row,
)
from mergescale.store.tables import DEPLOYMENTS, METADATA, TAILNETS
from mergescale.store.tombstones import tombstone
from support.stores import HOME, declare

# No database has half of a surrogate pair; PostgreSQL has no NUL in a text of its own.
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
#: Inside JSON anything goes.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LISTS = st.lists(TEXTS, max_size=3).map(tuple)
IDS = st.integers(1, MAX_ID)
NUMBERS = st.integers(-(2**63), 2**63 - 1)
KEYS = st.binary(min_size=32, max_size=32)
BYTES = st.binary(max_size=40)
FLAGS = st.booleans()
TIMES = st.builds(
    lambda seconds, micros, zone: datetime.fromtimestamp(seconds, zone).replace(microsecond=micros),
    st.integers(0, 2**37),
    st.integers(0, 999_999),
    st.sampled_from(
        [UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-11))]
    ),
)
PREFIXES = st.builds(
    lambda address, bits: ip_network((address, min(bits, address.max_prefixlen)), strict=False),
    st.ip_addresses(),
    st.integers(0, 128),
)
NODE_KEYS = KEYS.map(NodeKey)
MACHINE_KEYS = KEYS.map(MachineKey)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return the strategy, or None."""
    return st.none() | strategy


USERS = st.builds(User, IDS, WORDS, WORDS, st.sampled_from(Role), TIMES, FLAGS, FLAGS)
NODES = st.builds(
    Node,
    id=IDS,
    stable_id=WORDS,
    machine_key=MACHINE_KEYS,
    node_key=NODE_KEYS,
    disco_key=KEYS.map(DiscoKey),
    name=WORDS,
    name_pinned=FLAGS,
    ipv4=st.ip_addresses(v=4),
    ipv6=st.ip_addresses(v=6),
    created=TIMES,
    user=maybe(IDS),
    tags=LISTS,
    hostinfo=BYTES,
    advertised=st.lists(PREFIXES, max_size=3).map(lambda some: tuple(sorted(some, key=sort_key))),
    approved=st.frozensets(PREFIXES, max_size=3),
    endpoints=LISTS,
    home_derp=NUMBERS,
    capability_version=NUMBERS,
    ephemeral=FLAGS,
    authorized=FLAGS,
    key_expiry=maybe(TIMES),
    expiry_disabled=FLAGS,
    auth_key=maybe(WORDS),
    last_seen=maybe(TIMES),
    custom=st.lists(
        st.builds(
            CustomAttribute,
            WORDS,
            WORDS | FLAGS | st.integers(-(2**53), 2**53).map(float),
            maybe(TIMES),
        ),
        max_size=2,
    ).map(tuple),
)
AUTH_KEYS = st.builds(
    AuthKey,
    id=WORDS,
    secret_hash=BYTES,
    description=WORDS,
    created=TIMES,
    expires=TIMES,
    user=maybe(IDS),
    tags=LISTS,
    reusable=FLAGS,
    ephemeral=FLAGS,
    preauthorized=FLAGS,
    uses=NUMBERS,
    last_used=maybe(TIMES),
    revoked=maybe(TIMES),
)
API_KEYS = st.builds(ApiKey, WORDS, BYTES, WORDS, TIMES, maybe(TIMES), maybe(TIMES), maybe(TIMES))
LOGINS = st.builds(
    PendingLogin,
    id=WORDS,
    machine_key=MACHINE_KEYS,
    node_key=NODE_KEYS,
    old_node_key=NODE_KEYS,
    hostinfo=BYTES,
    ephemeral=FLAGS,
    capability_version=NUMBERS,
    created=TIMES,
    expires=TIMES,
    state=st.sampled_from(LoginState),
    node=maybe(IDS),
)
SSH_CHECKS = st.builds(
    SshCheck,
    id=WORDS,
    source=IDS,
    user=IDS,
    target=IDS,
    local_user=WORDS,
    created=TIMES,
    expires=TIMES,
    state=st.sampled_from(LoginState),
    decided=maybe(TIMES),
)
PRESENCE = st.builds(Presence, IDS, WORDS, TIMES)
FOLLOWING_ = st.builds(Following, WORDS, IDS, IDS, retried=IDS)
PRIMARIES_ = st.builds(Primary, PREFIXES, IDS)
COUNTERS = st.builds(Counters, IDS, IDS)
DEPLOYMENTS_ = st.builds(
    Deployment,
    commit=WORDS,
    files=st.dictionaries(TEXTS, TEXTS, max_size=3),
    subject=WORDS,
    author=WORDS,
    committed=TIMES,
    applied=TIMES,
    declaration=st.just(declare({})),
)
#: Every class that has a table of its own.
TABLED: Mapping[Kind, st.SearchStrategy[Record]] = {
    Kind.USER: USERS,
    Kind.AUTH_KEY: AUTH_KEYS,
    Kind.API_KEY: API_KEYS,
    Kind.LOGIN: LOGINS,
    Kind.SSH_CHECK: SSH_CHECKS,
    Kind.NODE: NODES,
    Kind.PRESENCE: PRESENCE,
    Kind.PRIMARY: PRIMARIES_,
    Kind.FOLLOWING: FOLLOWING_,
}
#: References are off: a record is on its own here.
ENGINE = create_engine("sqlite://")
METADATA.create_all(ENGINE)


def stored(table: Any, values: dict[str, Any]) -> Any:
    """Insert a row, read it back, forget it."""
    with ENGINE.connect() as connection, connection.begin() as transaction:
        connection.execute(insert(table), values)
        row = connection.execute(select(table)).one()
        transaction.rollback()
    return row


def test_every_class_with_a_table_is_tried() -> None:
    """A new class of record cannot be forgotten here."""
    assert set(TABLED) == set(TABLES) == set(Kind) - {Kind.COUNTERS, Kind.DEPLOYMENT}


@pytest.mark.parametrize("kind", TABLES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_record_comes_back_from_its_row(kind: Kind, data: st.DataObject) -> None:
    """Whatever a record holds, its row gives it back, with times in UTC."""
    record = data.draw(TABLED[kind])
    assert kind_of(record) is kind
    back = from_row(kind, stored(TABLES[kind], to_row(HOME, record)))
    assert back == record
    times = [getattr(back, name) for name in ("created", "expires", "since") if hasattr(back, name)]
    assert {time.tzinfo for time in times if time is not None} <= {UTC}


@settings(max_examples=30, deadline=None)
@given(COUNTERS, TIMES)
def test_counters_come_back_from_their_tailnet(counters: Counters, created: datetime) -> None:
    """The next ids are columns of the tailnet."""
    row = {"name": HOME, "revision": 1, "created": created, **to_row(HOME, counters)}
    assert from_row(Kind.COUNTERS, stored(TAILNETS, row)) == counters


@settings(max_examples=30, deadline=None)
@given(DEPLOYMENTS_)
def test_a_deployment_comes_back_with_its_texts_declared_anew(deployment: Deployment) -> None:
    """All but the declaration is stored; that is read from the texts."""
    row = stored(DEPLOYMENTS, {**to_row(HOME, deployment), "revision": 1})
    back = deployment_from_row(row, declare)
    for name in ("commit", "files", "subject", "author", "committed", "applied"):
        assert getattr(back, name) == getattr(deployment, name)
    assert back.declaration is not deployment.declaration


@settings(max_examples=40, deadline=None)
@given(st.one_of(COUNTERS, DEPLOYMENTS_, *TABLED.values()))
def test_a_tombstone_names_the_same_record(record: Record) -> None:
    """What stands in for a dropped record has its class and key."""
    stone = tombstone(kind_of(record), key_of(record))
    assert (kind_of(stone), key_of(stone)) == (kind_of(record), key_of(record))
