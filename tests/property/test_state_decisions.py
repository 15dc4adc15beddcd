"""Random decisions through the engine; what must hold after each of them.

The engine runs for real on the in-memory journal. After each decision the snapshot must equal the
one that a restart would load, and the published change must name whatever differs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from datetime import timedelta
from ipaddress import IPv4Address
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mergescale.domain.declaration import DeclaredUser
from mergescale.domain.prefixes import parse_prefix
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.tailnet import Settings
from mergescale.domain.user import Role
from mergescale.kernel.errors import Refusal
from mergescale.kernel.ids import AuthKeyId, LoginId, NodeId, ReplicaId, TailnetName, UserId
from mergescale.kernel.keys import DiscoKey
from mergescale.state import (
    authkeys,
    logins,
    nodes,
    policies,
    presence,
    routes,
    upkeep,
    users,
)
from mergescale.state.authkeys import Wanted
from mergescale.state.engine import Engine
from mergescale.state.logins import Approval
from mergescale.state.nodes import MapUpdate
from mergescale.state.outcome import Decision
from mergescale.state.ports import StoreUnavailable
from mergescale.state.registration import register
from support.access import follows, table
from support.clock import FakeClock
from support.journal import MemoryFeed, MemoryJournal
from support.machines import Machine, hostinfo, shown
from support.worlds import deployment

DEFAULT = TailnetName("default")
PEOPLE = ("alice@example.com", "bob@example.com", "carol@")
TAGS = ("tag:web", "tag:db")
ROUTES = ("10.0.0.0/24", "10.0.1.0/24", "0.0.0.0/0", "::/0")
STORED = ("counters", "users", "nodes", "auth_keys", "api_keys", "logins", "ssh_checks", "presence")
INDEXES = ("by_node_key", "by_machine", "by_login", "names", "addresses", "revision")

machines = st.sampled_from(["m1", "m2", "m3"]).map(Machine)
numbers = st.integers(min_value=0, max_value=2)
picks = st.integers(min_value=0, max_value=7)
key_ids = st.sampled_from(["alice", "bob", "tagged", "once"])
replicas = st.sampled_from(["r1", "r2"]).map(ReplicaId)
hostnames = st.sampled_from(["laptop", "Laptop", "build box", "", "laptop-1"])
some_tags = st.sets(st.sampled_from([*TAGS, "tag:none"])).map(tuple)
some_routes = st.sets(st.sampled_from(ROUTES)).map(sorted)


class Decisions(RuleBasedStateMachine):
    """One tailnet under everything that can happen to it."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.journal, self.feed, self.clock = MemoryJournal(), MemoryFeed(), FakeClock()
        self.engine: Engine = self.wait(Engine.open(DEFAULT, self.journal, self.feed, self.clock))
        self.running = self.loop.create_task(self.engine.run())
        self.ids_seen: dict[NodeId, str] = {}
        self.draws = 0
        self.begin()

    def begin(self) -> None:
        """Start from a tailnet where something is going on, so that steps have an effect."""
        for login in PEOPLE[:2]:
            self.apply(users.create(login))
        self.commits(declared=None, approver="tag:db", approval=False, stale=False)
        self.make_key("alice", PEOPLE[0], (), reusable=True)
        self.make_key("bob", PEOPLE[1], (), reusable=True)
        self.make_key("tagged", None, ("tag:web", "tag:db"), reusable=True)
        self.make_key("once", PEOPLE[0], (), reusable=False)
        for name, key in (("m1", "alice"), ("m2", "tagged")):
            self.apply(register(Machine(name).asks(auth=key, hostinfo=hostinfo("laptop"))))

    def teardown(self) -> None:
        self.engine.stop()
        self.wait(self.running)
        self.loop.close()

    def wait(self, work: Coroutine[Any, Any, Any] | asyncio.Task[None]) -> Any:
        return self.loop.run_until_complete(work)

    def apply(self, decision: Decision[Any]) -> None:
        """Carry it out and compare what was published with what differs."""
        before, told = self.engine.snapshot, len(self.feed.published)
        try:
            self.wait(self.engine.apply(decision))
        except (Refusal, StoreUnavailable):
            assert self.engine.snapshot is before
            assert len(self.feed.published) == told
            return
        after, published = self.engine.snapshot, self.feed.published[told:]
        assert len(published) <= 1
        change = published[0][2] if published else None
        named = frozenset() if change is None else change.nodes
        assert set(differing(before, after)) <= named
        people = {u for u in before.users.keys() | after.users.keys() if moved(before, after, u)}
        assert people <= (frozenset() if change is None else change.users)
        waiting = {k for k, _ in set(before.logins.items()) ^ set(after.logins.items())}
        assert waiting <= (frozenset() if change is None else change.logins)

    def node(self, pick: int) -> NodeId:
        """Return one of the nodes there are, or the id of none."""
        there = sorted(self.engine.snapshot.nodes)[pick // 2 :]
        return there[0] if there else NodeId(99)

    def user(self, pick: int) -> UserId:
        """Return one of the people there are, or the id of none."""
        there = sorted(self.engine.snapshot.users)[pick // 2 :]
        return there[0] if there else UserId(99)

    def make_key(
        self, key: str, user: str | None, tags: tuple[str, ...], *, reusable: bool
    ) -> None:
        wanted = Wanted(user=user, tags=tags, reusable=reusable)
        self.apply(authkeys.create(AuthKeyId(key), shown(key).secret_hash, wanted))

    # ------------------------------------------------------------------ what can happen

    @rule(
        machine=machines,
        number=numbers,
        old=st.none() | numbers,
        auth=st.none() | key_ids,
        hostname=hostnames,
        tags=st.just(()) | some_tags,
        advertised=some_routes,
        expiry=st.sampled_from([None, None, timedelta(days=-20000), timedelta(days=1)]),
        ephemeral=st.booleans(),
    )
    def registers(
        self,
        machine: Machine,
        number: int,
        old: int | None,
        auth: str | None,
        hostname: str,
        tags: tuple[str, ...],
        advertised: list[str],
        expiry: timedelta | None,
        ephemeral: bool,
    ) -> None:
        request = machine.asks(
            number=number,
            old=old,
            auth=auth,
            hostinfo=hostinfo(hostname, RequestTags=tags, RoutableIPs=advertised),
            expiry=None if expiry is None else self.clock.now() + expiry,
            ephemeral=ephemeral,
            followup=LoginId(str(self.fresh())),
        )
        self.apply(register(request))

    @rule(user=st.sampled_from(PEOPLE), tags=st.sampled_from([(), TAGS]), reusable=st.booleans())
    def makes_key(self, user: str, tags: tuple[str, ...], reusable: bool) -> None:
        self.make_key("once", None if tags else user, tags, reusable=reusable)

    @rule(key=st.sampled_from(["once", "once", "tagged"]))
    def deletes_key(self, key: str) -> None:
        self.apply(authkeys.delete(AuthKeyId(key)))

    @rule(user=st.none() | st.sampled_from(PEOPLE), tags=some_tags, approves=st.booleans())
    def decides_login(self, user: str | None, tags: tuple[str, ...], approves: bool) -> None:
        for login in logins.waiting(self.engine.snapshot, self.clock.now())[:1]:
            approval = Approval(f"n{self.fresh()}CNTRL", user, tags)
            if approves:
                self.apply(logins.approve(login.id, approval))
            else:
                self.apply(logins.reject(login.id))

    @rule(
        node=picks,
        hostname=hostnames,
        advertised=some_routes,
        derp=st.none() | st.integers(0, 3),
        port=st.integers(1, 3),
        disco=st.integers(0, 2),
    )
    def updates(
        self,
        node: int,
        hostname: str,
        advertised: list[str],
        derp: int | None,
        port: int,
        disco: int,
    ) -> None:
        net = {} if derp is None else {"NetInfo": {"PreferredDERP": derp}}
        said = MapUpdate(
            capability_version=130,
            hostinfo=hostinfo(hostname, RoutableIPs=advertised, **net),
            endpoints=(f"192.0.2.1:{port}",),
            disco_key=DiscoKey(bytes([disco]) * 32),
        )
        chosen = self.node(node)
        self.apply(nodes.update(chosen, said))
        if chosen in self.engine.snapshot.nodes:
            again = nodes.update(chosen, said)(self.engine.snapshot, self.clock.now())
            assert again.writes == ()

    @rule(node=picks, name=st.sampled_from(["", "laptop", "boss", "laptop-2"]))
    def renames(self, node: int, name: str) -> None:
        self.apply(nodes.rename(self.node(node), name))

    @rule(node=picks, tags=some_tags)
    def tags(self, node: int, tags: tuple[str, ...]) -> None:
        self.apply(nodes.set_tags(self.node(node), tags))

    @rule(node=picks, step=st.none() | st.integers(-1, 3))
    def expires(self, node: int, step: int | None) -> None:
        at = None if step is None else self.clock.now() + timedelta(days=step)
        self.apply(nodes.expire(self.node(node), at))

    @rule(
        node=picks,
        make=st.sampled_from(
            [nodes.delete, nodes.authorize, nodes.deauthorize, nodes.disable_key_expiry]
        ),
    )
    def handles(self, node: int, make: Any) -> None:
        self.apply(make(self.node(node)))

    @rule(node=picks, last=st.integers(1, 9))
    def moves(self, node: int, last: int) -> None:
        self.apply(nodes.set_ipv4(self.node(node), IPv4Address(f"100.64.0.{last}")))

    @rule(node=picks, approved=some_routes)
    def approves(self, node: int, approved: list[str]) -> None:
        self.apply(routes.approve(self.node(node), map(parse_prefix, approved)))

    @rule(node=picks, replica=replicas, comes=st.booleans())
    def connects(self, node: int, replica: ReplicaId, comes: bool) -> None:
        decision: Decision[Any] = presence.disconnected(self.node(node), replica)
        self.apply(presence.connected(self.node(node), replica) if comes else decision)

    @rule(gone=st.sets(replicas))
    def sweeps_presence(self, gone: set[ReplicaId]) -> None:
        self.apply(presence.sweep(frozenset(gone)))

    @rule(
        user=picks,
        make=st.sampled_from([users.suspend, users.restore, users.delete]),
        role=st.sampled_from(list(Role)),
    )
    def handles_user(self, user: int, make: Any, role: Role) -> None:
        self.apply(make(self.user(user)))
        self.apply(users.set_role(self.user(user), role))

    @rule(login=st.sampled_from(PEOPLE))
    def makes_user(self, login: str) -> None:
        self.apply(users.create(login))

    @rule(
        declared=st.none() | st.dictionaries(st.sampled_from(PEOPLE), st.booleans()),
        approver=st.sampled_from([*TAGS, *PEOPLE]),
        approval=st.booleans(),
        stale=st.booleans(),
    )
    def commits(
        self, declared: dict[str, bool] | None, approver: str, approval: bool, stale: bool
    ) -> None:
        people = None
        if declared is not None:
            people = tuple(
                DeclaredUser(login, "", Role.MEMBER, suspended)
                for login, suspended in declared.items()
            )
        declaration = table(
            tags={"tag:web": PEOPLE[:1], "tag:db": []},
            approvers={"10.0.0.0/8": [approver], "0.0.0.0/0": [approver]},
            users=people,
            settings=Settings(device_approval=approval),
        )
        # An older snapshot of this tailnet is what a slow compiler has.
        older = [before for before, _, _ in self.feed.published[-4:]]
        against = older[0] if stale and older else self.engine.snapshot
        prepared = declaration.policy.resolve(against)
        wanted = deployment(declaration, commit=f"{self.fresh():040x}")
        self.apply(policies.replace(wanted, prepared, against))

    @rule(step=st.sampled_from([timedelta(seconds=1), timedelta(minutes=6), timedelta(days=100)]))
    def time_passes(self, step: timedelta) -> None:
        self.clock.advance(step)
        self.apply(upkeep.sweep())
        assert not upkeep.due(self.engine.snapshot, self.clock.now())

    @rule()
    def store_fails(self) -> None:
        self.journal.fail_next = StoreUnavailable("disk full")
        self.apply(users.create(f"u{self.fresh()}@x"))
        self.journal.fail_next = None

    # ------------------------------------------------------------------ what must hold

    @invariant()
    def restart_would_load_the_same(self) -> None:
        snapshot = self.engine.snapshot
        loaded = self.wait(Engine.open(DEFAULT, self.journal, MemoryFeed(), self.clock)).snapshot
        for name in (*STORED, *INDEXES):
            assert getattr(loaded, name) == getattr(snapshot, name), name
        assert loaded.deployment is snapshot.deployment
        assert loaded.primaries == snapshot.primaries

    @invariant()
    def access_follows_nodes(self) -> None:
        assert follows(self.engine.snapshot)

    @invariant()
    def nobody_shares(self) -> None:
        snapshot = self.engine.snapshot
        held = list(snapshot.nodes.values())
        assert len({node.name for node in held}) == len(held) == len(snapshot.names)
        assert len({node.node_key for node in held}) == len(held) == len(snapshot.by_node_key)
        assert len({node.stable_id for node in held}) == len(held)
        assert len(snapshot.addresses) == 2 * len(held)
        assert set(snapshot.slots.of) == set(snapshot.nodes)
        assert all(snapshot.slots.at[slot] == node for node, slot in snapshot.slots.of.items())

    @invariant()
    def each_node_has_one_kind_of_owner(self) -> None:
        for node in self.engine.snapshot.nodes.values():
            assert (node.user is None) == bool(node.tags)
            assert node.user is None or node.user in self.engine.snapshot.users
            assert node.tags == tuple(sorted(set(node.tags)))

    @invariant()
    def ids_are_never_used_again(self) -> None:
        snapshot = self.engine.snapshot
        for node in snapshot.nodes.values():
            assert node.id < snapshot.counters.next_node
            assert self.ids_seen.setdefault(node.id, node.stable_id) == node.stable_id
        assert all(user < snapshot.counters.next_user for user in snapshot.users)

    @invariant()
    def routes_are_carried_by_who_may(self) -> None:
        snapshot = self.engine.snapshot
        for prefix, router in snapshot.primaries.items():
            assert prefix in snapshot.nodes[router].routes
            assert snapshot.takes_part(snapshot.nodes[router])

    @invariant()
    def only_living_nodes_are_present(self) -> None:
        assert self.engine.snapshot.presence.keys() <= self.engine.snapshot.nodes.keys()

    def fresh(self) -> int:
        """Return a number that was not drawn before."""
        self.draws += 1
        return self.draws


def differing(before: Snapshot, after: Snapshot) -> Iterator[NodeId]:
    """Yield the nodes whose record, presence or carried routes differ."""
    for node in before.nodes.keys() | after.nodes.keys():
        if view(before, node) != view(after, node):
            yield node


def view(snapshot: Snapshot, node: NodeId) -> tuple[object, ...]:
    """Return all that the change must name a node for."""
    carried = {prefix for prefix, router in snapshot.primaries.items() if router == node}
    record = snapshot.nodes.get(node)
    takes_part = record is not None and snapshot.takes_part(record)
    return record, snapshot.presence.get(node), carried, takes_part


def moved(before: Snapshot, after: Snapshot, user: UserId) -> bool:
    return before.users.get(user) != after.users.get(user)


Decisions.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestDecisions = Decisions.TestCase
