from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_network

import pytest

from mergescale.domain.access import DENY_ALL
from mergescale.domain.apikey import ApiKey
from mergescale.domain.authkey import AuthKey
from mergescale.domain.change import Change
from mergescale.domain.record import Counters, Presence, Record, key_of
from mergescale.kernel.ids import ApiKeyId, AuthKeyId, LoginId, NodeId, ReplicaId, Slot, UserId
from support.access import table
from support.clock import START
from support.worlds import deployment, named, node, routed, world

LATER = START + timedelta(days=1)
AUTH = AuthKey(AuthKeyId("k"), bytes(32), "", START, LATER)
API = ApiKey(ApiKeyId("t"), bytes(32), "", START)


@pytest.mark.parametrize(
    ("record", "key"),
    [
        (node(3, "a", user=UserId(1)), 3),
        (world("alice@x: ").users[UserId(1)], 1),
        (AUTH, "k"),
        (API, "t"),
        (Presence(NodeId(3), ReplicaId("r"), START), (3, "r")),
        (Counters(), None),
        (deployment(table()), None),
    ],
)
def test_key_of_a_record(record: Record, key: object) -> None:
    """Each class of record has its key; of counters and deployment there is one."""
    assert key_of(record) == key


@pytest.mark.parametrize(
    ("change", "usable"),
    [
        ({}, True),
        ({"uses": 1}, False),
        ({"uses": 9, "reusable": True}, True),
        ({"revoked": START}, False),
        ({"expires": START}, False),
    ],
)
def test_auth_key_admits_while_it_may(change: dict[str, object], usable: bool) -> None:
    """A key admits until it is spent, revoked or expired."""
    fields = {name: getattr(AUTH, name) for name in AUTH.__dataclass_fields__}
    assert AuthKey(**{**fields, **change}).usable(START) is usable


def test_api_token_opens_while_it_may() -> None:
    """A token opens the API until it is revoked or expired; without an end, for ever."""
    assert API.usable(LATER)
    assert ApiKey(API.id, bytes(32), "", START, LATER).usable(START)
    assert not ApiKey(API.id, bytes(32), "", START, LATER).usable(LATER)
    assert not ApiKey(API.id, bytes(32), "", START, revoked=START).usable(START)


def test_routes_are_advertised_and_approved() -> None:
    """A node routes what it advertises and is approved for, in advertised order."""
    before = routed(world("tag:r: r"), "r", "10.0.0.0/8", "10.1.0.0/16", "::/0")
    router = named(before, "r")
    assert router.routes == router.advertised
    assert routed(before, "r", "10.0.0.0/8", approved=False).nodes[router.id].routes == ()
    assert ip_network("10.1.0.0/16") in router.approved


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (Change(), "none"),
        (Change(logins=frozenset({LoginId("x")})), "logins"),
        (Change(nodes=frozenset({NodeId(1)}), logins=frozenset({LoginId("x")})), "nodes"),
        (Change(nodes=frozenset({NodeId(1)}), users=frozenset({UserId(1)})), "users"),
        (Change(users=frozenset({UserId(1)}), tailnet=True), "tailnet"),
        (Change(access=True, tailnet=True), "policy"),
    ],
)
def test_kind_is_the_widest(change: Change, kind: str) -> None:
    """A change is called by the widest thing in it, and is false only when empty."""
    assert change.kind == kind
    assert bool(change) is (kind != "none")


def test_without_policy_everything_is_denied() -> None:
    """A tailnet that never had a policy admits nothing, whatever happens to its nodes."""
    before = world("alice@x: a, b")
    access = DENY_ALL.refreshed(before, [NodeId(1)])
    a = named(before, "a")
    assert (access.policy, access.visible(Slot(0)), dict(access.chunks(Slot(0)))) == (None, 0, {})
    assert access.users_of(NodeId(1), ip_network("10.0.0.0/8")) == 0
    assert not access.may_take_tag(before.users[UserId(1)], "tag:x")
    assert not access.has_tag("tag:x")
    assert not access.approves(a, before.owner(a), ip_network("10.0.0.0/8"))
