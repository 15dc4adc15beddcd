from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest

from mergescale.domain.node import Node
from mergescale.domain.record import Drop, Put
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.tailnet import Settings
from mergescale.kernel.ids import AuthKeyId, NodeId, UserId
from mergescale.kernel.keys import NodeKey
from mergescale.state import authkeys, nodes, users
from mergescale.state.registration import (
    Answer,
    KeyExpired,
    LoggedOut,
    LoginNeeded,
    Refused,
    Registered,
    Request,
    register,
)
from support.access import table
from support.clock import START
from support.machines import Machine, decided, hostinfo, with_key, wrong_secret
from support.worlds import deployment, step, world

ALICE, BOB = UserId(1), UserId(2)
LATER = START + timedelta(minutes=10)
LOGOUT = datetime(1970, 1, 1, 0, 2, 3, tzinfo=UTC)
LAPTOP, PHONE = Machine("laptop"), Machine("phone")


def people(**settings: object) -> Snapshot:
    """Return a tailnet of alice and bob; alice may give tag:web, tag:db routes 10.0.0.0/8."""
    declaration = table(
        tags={"tag:web": ["alice@example.com"], "tag:db": []},
        approvers={"10.0.0.0/8": ["tag:db"], "192.168.0.0/16": ["alice@example.com"]},
        settings=Settings(**settings),  # type: ignore[arg-type]
    )
    return world("alice@example.com: ; bob@example.com: ", declaration=declaration)


def joined(before: Snapshot, request: Request, now: datetime = START) -> tuple[Snapshot, Node]:
    after, answer = decided(before, register(request), now)
    assert isinstance(answer, Registered), answer
    assert answer.user == after.owner(answer.node)
    assert after.nodes[answer.node.id] == answer.node
    return after, answer.node


def told(before: Snapshot, request: Request, now: datetime = START) -> Answer:
    """Return the answer of a registration that must change nothing."""
    outcome = register(request)(before, now)
    assert outcome.writes == ()
    assert outcome.snapshot is before
    return outcome.answer


# ---------------------------------------------------------------------------- by auth key


def test_key_makes_a_whole_node() -> None:
    """A pre-auth key makes a node with every field that the request and the key decide."""
    before = with_key(people(), "k", START)
    info = hostinfo("Laptop.local", RoutableIPs=["10.1.0.0/16", "192.168.1.0/24"])
    request = LAPTOP.asks(auth="k", hostinfo=info)
    after, node = joined(before, request)
    assert node == Node(
        id=NodeId(1),
        stable_id=request.fresh.stable_id,
        machine_key=LAPTOP.key,
        node_key=LAPTOP.node_key(),
        name="laptop",
        ipv4=IPv4Address("100.64.0.1"),
        ipv6=IPv6Address("fd7a:115c:a1e0::1"),
        created=START,
        user=ALICE,
        hostinfo=info.raw,
        advertised=(ip_network("10.1.0.0/16"), ip_network("192.168.1.0/24")),
        approved=frozenset({ip_network("192.168.1.0/24")}),
        capability_version=130,
        key_expiry=START + timedelta(days=180),
        auth_key=AuthKeyId("k"),
    )
    assert after.counters.next_node == 2
    key = after.auth_keys[AuthKeyId("k")]
    assert (key.uses, key.last_used) == (1, START)


def test_a_new_device_takes_its_address_from_the_pool_of_its_owner() -> None:
    """The pool is the owner's; a device that is known keeps its address under a new policy."""
    pools = {"alice@example.com": "100.81.0.0/16"}
    before = world("alice@example.com: ; bob@example.com: ", declaration=table(pools=pools))
    before = with_key(before, "a", START)
    before, laptop = joined(before, LAPTOP.asks(auth="a"))
    assert laptop.ipv4 == IPv4Address("100.81.0.1")
    assert laptop.ipv6 == IPv6Address("fd7a:115c:a1e0::1")

    moved = step(before, [Put(deployment(table(pools={"alice@example.com": "100.82.0.0/16"})))])
    _, again = joined(moved, LAPTOP.asks())
    assert again.ipv4 == laptop.ipv4


def test_a_full_pool_refuses_and_says_so() -> None:
    """Nothing is written, and the person at the device reads why."""
    pools = {"alice@example.com": "100.64.0.1/32"}
    before = world("alice@example.com: old; bob@example.com: ", declaration=table(pools=pools))
    before = with_key(before, "a", START)
    assert told(before, LAPTOP.asks(auth="a")) == Refused(
        "all addresses of 100.64.0.1/32 are in use"
    )


def test_one_shot_key_admits_one_machine() -> None:
    """A one-shot key that admitted a machine admits no other."""
    before, _ = joined(with_key(people(), "k", START), LAPTOP.asks(auth="k"))
    assert told(before, PHONE.asks(auth="k")) == Refused("the auth key was used already")


def test_reusable_key_admits_many() -> None:
    """A reusable key admits machine after machine and counts them."""
    before = with_key(people(), "k", START, reusable=True)
    before, first = joined(before, LAPTOP.asks(auth="k"))
    before, second = joined(before, PHONE.asks(auth="k"))
    assert (first.id, second.id) == (1, 2)
    assert before.auth_keys[AuthKeyId("k")].uses == 2


@pytest.mark.parametrize("by_request", [True, False])
def test_ephemeral_by_key_or_by_request(by_request: bool) -> None:
    """A node is ephemeral if its key or its client says so."""
    before = with_key(people(), "k", START, ephemeral=not by_request)
    _, node = joined(before, LAPTOP.asks(auth="k", ephemeral=by_request))
    assert node.ephemeral


def test_tagged_key_makes_a_tagged_node() -> None:
    """A tagged key gives its tags, no user and no expiry; autoApprovers look at the tags."""
    before = with_key(people(), "k", START, tags=("tag:web", "tag:db"))
    request = LAPTOP.asks(auth="k", hostinfo=hostinfo("db", RoutableIPs=["10.2.0.0/16"]))
    _, node = joined(before, request)
    assert (node.user, node.tags, node.key_expiry) == (None, ("tag:db", "tag:web"), None)
    assert node.approved == {ip_network("10.2.0.0/16")}


@pytest.mark.parametrize(("wish", "text"), [(["tag:web"], None), (["tag:db"], '"tag:db"')])
def test_tagged_key_gives_only_its_tags(wish: list[str], text: str | None) -> None:
    """With a tagged key a device may ask for the key's own tags, and for no other."""
    before = with_key(people(), "k", START, tags=("tag:web",))
    request = LAPTOP.asks(auth="k", hostinfo=hostinfo("a", RequestTags=wish))
    if text is None:
        assert joined(before, request)[1].tags == ("tag:web",)
    else:
        refusal = f"requested tags {text} are not among the auth key's"
        assert told(before, request) == Refused(refusal)


@pytest.mark.parametrize(
    ("wish", "refused"),
    [(["tag:web"], None), (["tag:web", "tag:db"], "tag:db"), (["tag:none"], "tag:none")],
)
def test_users_key_gives_tags_all_or_nothing(wish: list[str], refused: str | None) -> None:
    """With a user's key a device gets the tags it asks for if the user may give every one."""
    before = with_key(people(), "k", START)
    request = LAPTOP.asks(auth="k", hostinfo=hostinfo("a", RequestTags=wish))
    if refused is None:
        _, node = joined(before, request)
        assert (node.user, node.tags, node.key_expiry) == (None, ("tag:web",), None)
    else:
        assert told(before, request) == Refused(f'requested tags "{refused}" are not permitted')


def test_key_whose_tag_is_gone_is_refused() -> None:
    """A key of a tag that the policy no longer declares makes no node."""
    before = with_key(people(), "k", START, tags=("tag:web",))
    key = replace(before.auth_keys[AuthKeyId("k")], tags=("tag:gone",))
    before = step(before, [Put(key)])
    assert told(before, LAPTOP.asks(auth="k")) == Refused('tags "tag:gone" are not declared')


def test_key_of_suspended_user_is_refused() -> None:
    """A suspended user's keys admit nobody."""
    before, _ = decided(with_key(people(), "k", START), users.suspend(ALICE), START)
    refusal = Refused('user "alice@example.com" is suspended')
    assert told(before, LAPTOP.asks(auth="k")) == refusal


@pytest.mark.parametrize("case", ["unknown", "wrong secret", "revoked", "expired"])
def test_bad_keys_are_refused_with_the_reason(case: str) -> None:
    """A bad key is refused; why is told only to who has the secret."""
    before = with_key(people(), "k", START)
    request, now = LAPTOP.asks(auth="k"), START
    match case:
        case "unknown":
            request = LAPTOP.asks(auth="other")
        case "wrong secret":
            request = wrong_secret(request)
        case "revoked":
            before, _ = decided(before, authkeys.revoke(AuthKeyId("k")), START)
        case "expired":
            now = START + authkeys.DEFAULT_LIFE
    reasons = {"revoked": "the auth key was revoked", "expired": "the auth key has expired"}
    expected = Refused(reasons.get(case, "the auth key is not valid"))
    assert told(before, request, now) == expected


def test_zero_node_key_is_refused() -> None:
    """A request without a node key is refused."""
    request = replace(LAPTOP.asks(), node_key=NodeKey.zero())
    assert told(people(), request) == Refused("a node key is missing")


@pytest.mark.parametrize(("preauthorized", "authorized"), [(True, True), (False, False)])
def test_device_approval_waits_unless_preauthorized(preauthorized: bool, authorized: bool) -> None:
    """Where devices need approval, only a preauthorized key spares it."""
    before = people(device_approval=True)
    before = with_key(before, "k", START, preauthorized=preauthorized)
    assert joined(before, LAPTOP.asks(auth="k"))[1].authorized is authorized


def test_same_names_are_numbered() -> None:
    """Devices with one host name are told apart by a number."""
    before = with_key(people(), "k", START, reusable=True)
    found = []
    for machine in (LAPTOP, PHONE, Machine("third")):
        request = machine.asks(auth="k", hostinfo=hostinfo("Build Box"))
        before, node = joined(before, request)
        found.append(node.name)
    assert found == ["build-box", "build-box-1", "build-box-2"]


# ---------------------------------------------------------------------------- restart


def test_restart_with_a_spent_key_succeeds() -> None:
    """A node in good standing comes back with the key it was made by, spent, expired or gone."""
    before, node = joined(with_key(people(), "k", START), LAPTOP.asks(auth="k"))
    assert told(before, LAPTOP.asks(auth="k")) == Registered(node, before.users[ALICE])
    late = START + timedelta(days=100)
    assert told(before, LAPTOP.asks(auth="k"), late) == Registered(node, before.users[ALICE])
    before, _ = decided(before, authkeys.delete(AuthKeyId("k")), START)
    assert told(before, LAPTOP.asks(auth="k")) == Registered(node, before.users[ALICE])


def test_restart_without_a_key_keeps_everything() -> None:
    """A restart is no re-authentication: neither expiry nor owner move (S4's counterpart)."""
    before, node = joined(with_key(people(), "k", START), LAPTOP.asks(auth="k"))
    assert told(before, LAPTOP.asks(), LATER) == Registered(node, before.users[ALICE])


def test_restart_tells_news() -> None:
    """What the device says of itself at a restart counts: host name, routes, version."""
    before, node = joined(with_key(people(), "k", START), LAPTOP.asks(auth="k"))
    info = hostinfo("workstation", RoutableIPs=["192.168.7.0/24"])
    request = replace(LAPTOP.asks(hostinfo=info), capability_version=131)
    _, back = joined(before, request, LATER)
    route = ip_network("192.168.7.0/24")
    assert back == replace(
        node,
        name="workstation",
        hostinfo=info.raw,
        advertised=(route,),
        approved=frozenset({route}),
        capability_version=131,
    )


def test_restart_after_an_operator_tagged_it() -> None:
    """The key a node registered with lets it restart even though tags own it by now."""
    before, node = joined(with_key(people(), "k", START), LAPTOP.asks(auth="k"))
    before, node = decided(before, nodes.set_tags(node.id, ["tag:db"]), START)
    assert told(before, LAPTOP.asks(auth="k")) == Registered(node, None)


def test_offline_ephemeral_that_registers_is_alive() -> None:
    """An ephemeral node that registers again is not removed before its stream opens."""
    before = with_key(people(), "k", START, ephemeral=True)
    before, _ = joined(before, LAPTOP.asks(auth="k"))
    _, back = joined(before, LAPTOP.asks(auth="k"), LATER)
    assert back.last_seen == LATER


# ---------------------------------------------------------------------------- rotation and expiry


@pytest.mark.parametrize("old", [0, None, 9])
def test_rotation_keeps_identity(old: int | None) -> None:
    """A new node key with a valid key is the same node, whatever OldNodeKey says."""
    before = with_key(people(), "k", START, reusable=True)
    before, node = joined(before, LAPTOP.asks(auth="k"))
    after, back = joined(before, LAPTOP.asks(auth="k", number=1, old=old), LATER)
    assert back == replace(
        node, node_key=LAPTOP.node_key(1), key_expiry=LATER + timedelta(days=180)
    )
    assert LAPTOP.node_key(0) not in after.by_node_key
    assert after.counters == before.counters


def test_rotation_needs_a_valid_key() -> None:
    """A new node key with a spent auth key is refused, with none it needs a login."""
    before, _ = joined(with_key(people(), "k", START), LAPTOP.asks(auth="k"))
    refusal = Refused("the auth key was used already")
    assert told(before, LAPTOP.asks(auth="k", number=1, old=0)) == refusal
    request = LAPTOP.asks(number=1, old=0)
    after, answer = decided(before, register(request), START)
    assert answer == LoginNeeded(request.fresh.login_id)
    # SPEC(control-protocol 3.4): the old key serves the running map poll until the login is done.
    assert after.node_of(LAPTOP.key, LAPTOP.node_key(0)) is not None


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        ("k", Refused("the auth key was used already")),
        ("unknown", Refused("the auth key is not valid")),
        (None, KeyExpired()),
    ],
)
def test_expired_node_needs_more_than_a_spent_key(auth: str | None, expected: Answer) -> None:
    """An expired node does not come back by a key that admits nobody any more (S4)."""
    before, node = joined(with_key(people(), "k", START), LAPTOP.asks(auth="k"))
    before, _ = decided(before, nodes.expire(node.id), START)
    assert told(before, LAPTOP.asks(auth=auth), LATER) == expected


def test_expired_node_returns_by_a_valid_key() -> None:
    """An expired node with a valid key is itself again, for another full term."""
    before, node = joined(with_key(people(), "k", START), LAPTOP.asks(auth="k"))
    before, _ = decided(before, nodes.expire(node.id), START)
    before = with_key(before, "k2", START)
    _, back = joined(before, LAPTOP.asks(auth="k2"), LATER)
    expiry = LATER + timedelta(days=180)
    assert back == replace(node, key_expiry=expiry, auth_key=AuthKeyId("k2"))


def test_future_expiry_shortens_only() -> None:
    """A client may ask for an earlier key expiry, never for a later one."""
    before, node = joined(with_key(people(), "k", START), LAPTOP.asks(auth="k"))
    sooner = START + timedelta(days=1)
    before, back = joined(before, LAPTOP.asks(expiry=sooner))
    assert back == replace(node, key_expiry=sooner)
    again = told(before, LAPTOP.asks(expiry=sooner + timedelta(days=1)))
    assert again == Registered(back, before.users[ALICE])


def test_future_expiry_shortens_a_new_node() -> None:
    """The wish holds for a new node too, again only towards less."""
    before = with_key(people(), "k", START, reusable=True)
    sooner, later = START + timedelta(days=1), START + timedelta(days=999)
    assert joined(before, LAPTOP.asks(auth="k", expiry=sooner))[1].key_expiry == sooner
    normal = START + timedelta(days=180)
    assert joined(before, LAPTOP.asks(auth="k", expiry=later))[1].key_expiry == normal


@pytest.mark.parametrize("rotated", [False, True])
def test_expiry_that_was_switched_off_stays_off(rotated: bool) -> None:
    """A new login of the same node, expired or with a new key, has no term; until it is on again."""
    before, node = joined(with_key(people(), "k", START), LAPTOP.asks(auth="k"))
    before, _ = decided(before, nodes.disable_key_expiry(node.id), START)
    before, _ = decided(before, nodes.expire(node.id), START)
    request = LAPTOP.asks(auth="k2")
    if rotated:
        request = replace(request, node_key=LAPTOP.node_key(1), old_node_key=LAPTOP.node_key())
    after, back = joined(with_key(before, "k2", LATER), request, LATER)
    assert (back.id, back.key_expiry, back.expiry_disabled) == (node.id, None, True)

    after, _ = decided(after, nodes.enable_key_expiry(node.id), LATER)
    assert after.nodes[node.id].key_expiry == LATER + timedelta(days=180)
    after, _ = decided(after, nodes.expire(node.id), LATER)
    request = replace(request, auth=LAPTOP.asks(auth="k3").auth)
    _, back = joined(with_key(after, "k3", LATER), request, LATER)
    assert back.key_expiry == LATER + timedelta(days=180)


def test_switching_expiry_on_counts_for_an_expired_node_too() -> None:
    """Its key stays expired, and the next login has a term."""
    before, node = joined(with_key(people(), "k", START), LAPTOP.asks(auth="k"))
    before, _ = decided(before, nodes.disable_key_expiry(node.id), START)
    before, _ = decided(before, nodes.expire(node.id), START)
    after, _ = decided(before, nodes.enable_key_expiry(node.id), LATER)
    assert after.nodes[node.id] == replace(node, key_expiry=START)


def test_expiry_is_switched_off_for_one_owner() -> None:
    """A node that went to tags and came back to its user has a term again."""
    before, node = joined(with_key(people(), "k", START), LAPTOP.asks(auth="k"))
    before, _ = decided(before, nodes.disable_key_expiry(node.id), START)
    before, _ = decided(before, nodes.set_tags(node.id, ["tag:web"]), START)
    before, _ = decided(before, nodes.expire(node.id), START)
    _, back = joined(with_key(before, "k2", LATER), LAPTOP.asks(auth="k2"), LATER)
    assert (back.id, back.key_expiry) == (node.id, LATER + timedelta(days=180))


def test_a_client_may_still_ask_for_less() -> None:
    """Its own wish counts where an operator has switched the tailnet's term off."""
    before, node = joined(with_key(people(), "k", START), LAPTOP.asks(auth="k"))
    before, _ = decided(before, nodes.disable_key_expiry(node.id), START)
    sooner = LATER + timedelta(days=1)
    before, _ = decided(before, nodes.expire(node.id), START)
    request = LAPTOP.asks(auth="k2", expiry=sooner)
    assert joined(with_key(before, "k2", LATER), request, LATER)[1].key_expiry == sooner


def test_no_expiry_where_settings_say_so() -> None:
    """A tailnet without key expiry makes user nodes that do not expire."""
    before = with_key(people(key_expiry=None), "k", START)
    assert joined(before, LAPTOP.asks(auth="k"))[1].key_expiry is None


# ---------------------------------------------------------------------------- logout


def test_logout_goes_before_the_auth_key() -> None:
    """A logout with a reusable key logs out: the key expires now, not in 1970 (pitfall 15)."""
    before = with_key(people(), "k", START, reusable=True)
    before, node = joined(before, LAPTOP.asks(auth="k"))
    after, answer = decided(before, register(LAPTOP.asks(auth="k", expiry=LOGOUT)), LATER)
    assert answer == LoggedOut()
    assert dict(after.nodes) == {node.id: replace(node, key_expiry=LATER)}
    assert after.auth_keys == before.auth_keys
    assert told(after, LAPTOP.asks(expiry=LOGOUT), LATER + timedelta(hours=1)) == LoggedOut()


def test_logout_removes_an_ephemeral_node() -> None:
    """An ephemeral node that logs out is gone at once."""
    before = with_key(people(), "k", START, ephemeral=True)
    before, node = joined(before, LAPTOP.asks(auth="k"))
    outcome = register(LAPTOP.asks(auth="k", expiry=LOGOUT))(before, LATER)
    assert (outcome.answer, outcome.writes) == (LoggedOut(), [Drop(node)])


def test_logout_of_nobody_is_fine() -> None:
    """A machine without a node may log out."""
    assert told(people(), LAPTOP.asks(expiry=LOGOUT)) == LoggedOut()


# ---------------------------------------------------------------------------- whose key is it


@pytest.mark.parametrize("auth", [None, "k"])
@pytest.mark.parametrize("expiry", [None, LOGOUT])
def test_node_key_of_another_machine_is_refused(auth: str | None, expiry: datetime | None) -> None:
    """Whoever shows another machine's node key gets nothing and changes nothing (S2, S3)."""
    before = with_key(people(), "k", START, reusable=True)
    before, _ = joined(before, LAPTOP.asks(auth="k"))
    request = replace(PHONE.asks(auth=auth, expiry=expiry), node_key=LAPTOP.node_key())
    assert told(before, request) == Refused("this node key belongs to another machine")


def test_old_node_key_of_another_machine_is_ignored() -> None:
    """Naming another machine's key as one's previous one makes a new node, not that node."""
    before = with_key(people(), "k", START, reusable=True)
    before, victim = joined(before, LAPTOP.asks(auth="k"))
    request = replace(PHONE.asks(auth="k"), old_node_key=LAPTOP.node_key())
    after, node = joined(before, request)
    assert node.id != victim.id
    assert after.nodes[victim.id] == victim


def routed_laptop() -> tuple[Snapshot, Node]:
    """Return a tailnet where alice's laptop routes a net that was approved for alice."""
    before = with_key(people(), "k", START)
    info = hostinfo("laptop", RoutableIPs=["192.168.7.0/24"])
    return joined(before, LAPTOP.asks(auth="k", hostinfo=info))


def test_other_user_on_same_machine_is_another_node() -> None:
    """Bob on alice's machine gets a node of his own; alice's tags and routes stay hers (S6)."""
    before, first = routed_laptop()
    before = with_key(before, "bob", START, user="bob@example.com")
    info = hostinfo("laptop", RoutableIPs=["192.168.7.0/24"])
    request = LAPTOP.asks(auth="bob", number=1, old=0, hostinfo=info)
    after, second = joined(before, request, LATER)
    assert (second.id, second.user, second.name) == (2, BOB, "laptop-1")
    assert (second.ipv4, second.approved) == (IPv4Address("100.64.0.2"), frozenset())
    assert after.nodes[first.id] == first
    assert after.by_machine[LAPTOP.key] == {first.id, second.id}


def test_other_users_key_with_known_node_key_asks_for_a_new_one() -> None:
    """Two nodes never share a node key: the client is told to make another (pitfall 44)."""
    before, _ = routed_laptop()
    before = with_key(before, "bob", START, user="bob@example.com")
    assert told(before, LAPTOP.asks(auth="bob")) == KeyExpired()


def test_tagged_key_turns_a_users_node() -> None:
    """A tagged key on a user's node needs to be valid; then the node is the tags', routes not."""
    before, node = routed_laptop()
    before = with_key(before, "t", START, tags=("tag:web",))
    info = hostinfo("laptop", RoutableIPs=["192.168.7.0/24"])
    request = LAPTOP.asks(auth="t", hostinfo=info)
    after, back = joined(before, request, LATER)
    assert back == replace(
        node,
        user=None,
        tags=("tag:web",),
        approved=frozenset(),
        key_expiry=None,
        auth_key=AuthKeyId("t"),
    )
    spent = with_key(before, "t2", START, tags=("tag:web",))
    spent, _ = decided(spent, authkeys.revoke(AuthKeyId("t2")), START)
    assert told(spent, LAPTOP.asks(auth="t2")) == Refused("the auth key was revoked")
    assert after.users[ALICE] == before.users[ALICE]


def test_users_key_turns_a_tagged_node() -> None:
    """A user who logs in again without asking for tags owns the node."""
    before = with_key(people(), "t", START, tags=("tag:db",))
    before, node = joined(before, LAPTOP.asks(auth="t"))
    before = with_key(before, "k", START)
    _, back = joined(before, LAPTOP.asks(auth="k", number=1, old=0), LATER)
    assert (back.id, back.user, back.tags) == (node.id, ALICE, ())
    assert back.key_expiry == LATER + timedelta(days=180)


def test_pinned_name_survives_registration() -> None:
    """A name that an operator chose stays through a rotation under another host name."""
    before = with_key(people(), "k", START, reusable=True)
    before, node = joined(before, LAPTOP.asks(auth="k"))
    before, _ = decided(before, nodes.rename(node.id, "boss"), START)
    request = LAPTOP.asks(auth="k", number=1, hostinfo=hostinfo("renamed"))
    assert joined(before, request)[1].name == "boss"


def test_known_machine_after_logout_is_the_same_node() -> None:
    """After a logout the machine's next login under the same user is the node it was."""
    before = with_key(people(), "k", START, reusable=True)
    before, node = joined(before, LAPTOP.asks(auth="k"))
    before, _ = decided(before, register(LAPTOP.asks(expiry=LOGOUT)), START)
    _, back = joined(before, LAPTOP.asks(auth="k", number=1), LATER)
    assert (back.id, back.stable_id, back.ipv4) == (node.id, node.stable_id, node.ipv4)
