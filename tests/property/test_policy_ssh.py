"""What must hold of every set of SSH rules over every tailnet, whatever happens to it."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mergescale.domain.access import SshRule
from mergescale.domain.declaration import Declaration
from mergescale.domain.snapshot import Snapshot
from mergescale.policy.compiled import CompiledPolicy
from mergescale.policy.ssh.selftest import run_ssh_tests
from support.policies import diagnose, policy, sees
from support.ssh import entry, ssh_rules
from support.tailnet_story import EVENTS, Dice, happen
from support.worlds import named, world

PEOPLE = ("alice@example.com", "bob@example.com", "10@example.com", "group:g", "autogroup:member")
TAGS = ("tag:web", "tag:db", "autogroup:tagged")
USERS = ("root", "ubuntu", "autogroup:nonroot", "localpart:*@example.com")
NODES = "alice@example.com: n1, n2; bob@example.com: n3; tag:web: n4; tag:db+tag:web: n5"
KINDS = (("alice@example.com", "n1"), ("bob@example.com", "n3"), ("tag:web", "n4"))
OPEN = [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]
NARROW_ACLS = [
    {"action": "accept", "src": ["group:g"], "dst": ["tag:web:*", "autogroup:self:*"]},
    {"action": "accept", "src": ["tag:db"], "dst": ["tag:web:22"]},
]


@st.composite
def entries(draw: st.DrawFn) -> dict[str, Any]:
    people = draw(st.booleans())
    sources = st.lists(st.sampled_from(PEOPLE if people else (*PEOPLE, *TAGS)), min_size=1)
    targets = st.lists(
        st.sampled_from((*TAGS, "autogroup:self") if people else TAGS), min_size=1, max_size=2
    )
    users = draw(st.lists(st.sampled_from(USERS), min_size=1, max_size=3))
    more: dict[str, Any] = {"action": draw(st.sampled_from(("accept", "check")))}
    if draw(st.integers(0, 3)) == 0:
        more |= {"recorder": ["tag:db"], "enforceRecorder": draw(st.booleans())}
    return entry(" ".join(draw(sources)), " ".join(draw(targets)), " ".join(users), **more)


rules = st.lists(entries(), max_size=4)


def text_of(ssh: list[dict[str, Any]], *, open_: bool = True, **more: Any) -> str:
    return json.dumps(
        {
            "groups": {"group:g": ["alice@example.com", "10@example.com"]},
            "tagOwners": {"tag:web": [], "tag:db": []},
            "acls": OPEN if open_ else NARROW_ACLS,
            "ssh": ssh,
            **more,
        }
    )


def under(ssh: list[dict[str, Any]], *, open_: bool = True) -> Snapshot:
    return world(NODES, declaration=Declaration(policy(text_of(ssh, open_=open_))))


def every(snapshot: Snapshot) -> dict[str, tuple[SshRule, ...]]:
    return {name: ssh_rules(snapshot, name) for name in snapshot.names}


@given(ssh=rules, open_=st.booleans(), seed=st.integers(0, 2**64 - 1))
@settings(max_examples=150, deadline=None)
def test_refreshed_equals_resolving_from_scratch(
    ssh: list[dict[str, Any]], open_: bool, seed: int
) -> None:
    """After any history, asked or not in between, the rules are those of a fresh resolution."""
    snapshot, dice = under(ssh, open_=open_), Dice.seeded(seed)
    for _ in range(1 + dice.roll(6)):
        if dice.roll(2):
            every(snapshot)
        snapshot, _ = happen(snapshot, dice.one(EVENTS)(snapshot, dice))
        assert snapshot.policy is not None
        fresh = replace(snapshot, access=snapshot.policy.resolve(snapshot))
        assert every(snapshot) == every(fresh)


@given(ssh=rules, open_=st.booleans(), seed=st.integers(0, 2**64 - 1))
@settings(max_examples=100, deadline=None)
def test_sources_are_nodes_that_an_entry_names_and_the_viewer_sees(
    ssh: list[dict[str, Any]], open_: bool, seed: int
) -> None:
    """No rule names an address of anybody else: an independent reading of each entry."""
    snapshot, dice = under(ssh, open_=open_), Dice.seeded(seed)
    for _ in range(dice.roll(4)):
        snapshot, _ = happen(snapshot, dice.one(EVENTS)(snapshot, dice))
    owners = {str(ip): snapshot.nodes[node].name for ip, node in snapshot.addresses.items()}
    for viewer, found in every(snapshot).items():
        seen = {viewer, *sees(snapshot, viewer)}
        allowed = {
            source
            for one in ssh
            for source in snapshot.names
            if any(_is(snapshot, source, text) for text in one["src"])
            and _leads(snapshot, one, source, viewer)
        }
        for rule in found:
            assert {owners[address] for address in rule.principals} <= allowed & seen
        if found:
            assert snapshot.takes_part(named(snapshot, viewer))


def _is(snapshot: Snapshot, name: str, text: str) -> bool:
    node = named(snapshot, name)
    owner = snapshot.owner(node)
    if not snapshot.takes_part(node):
        return False
    if owner is None:
        return text == "autogroup:tagged" or text in node.tags
    members = ("alice@example.com", "10@example.com") if text == "group:g" else (text,)
    return text == "autogroup:member" or owner.login in members


def _leads(snapshot: Snapshot, one: dict[str, Any], source: str, viewer: str) -> bool:
    mine, theirs = named(snapshot, source), named(snapshot, viewer)
    own = mine.user is not None and mine.user == theirs.user
    by_local_part = "localpart:*@example.com" in one["users"]
    if own and ("autogroup:self" in one["dst"] or by_local_part):
        return True
    return any(_is(snapshot, viewer, text) for text in one["dst"])


@given(ssh=rules, seed=st.integers(0, 2**64 - 1))
@settings(max_examples=60, deadline=None)
def test_order_inside_an_entry_and_between_kinds_changes_nothing(
    ssh: list[dict[str, Any]], seed: int
) -> None:
    """Order matters among entries of one action only; checks come first in any case."""
    dice = Dice.seeded(seed)

    def mixed(words: list[str]) -> list[str]:
        return sorted(words, key=lambda _: dice.roll(99))

    turned = [{**one, **{key: mixed(one[key]) for key in ("src", "dst", "users")}} for one in ssh]
    checks = [one for one in turned if one["action"] == "check"]
    accepts = [one for one in turned if one["action"] == "accept"]
    plain = every(under(ssh))
    assert every(under([*checks, *accepts])) == plain
    assert every(under([*accepts, *checks])) == plain
    for found in plain.values():
        kinds = [rule.check_period is None for rule in found]
        assert kinds == sorted(kinds)


@given(ssh=rules, extra=entries())
@settings(max_examples=60, deadline=None)
def test_another_entry_takes_no_rule_away(ssh: list[dict[str, Any]], extra: dict[str, Any]) -> None:
    """Each node keeps all the rules it had, in their order, and may get more."""
    before, after = every(under(ssh)), every(under([*ssh, extra]))
    for name, found in before.items():
        left = iter(after[name])
        assert all(rule in left for rule in found)


@given(ssh=rules, user=st.sampled_from(("root", "ubuntu", "alice", "bob")))
@settings(max_examples=60, deadline=None)
def test_tests_say_what_clients_do(ssh: list[dict[str, Any]], user: str) -> None:
    """What ``sshTests`` expect of kinds of devices is what the first matching rule gives them."""
    snapshot, tests, wrong = under(ssh), list[dict[str, Any]](), set[str]()
    for (source, source_node), (target, target_node) in product(KINDS, KINDS):
        verdict = _client(snapshot, source_node, target_node, user)
        for expected in ("accept", "check", "deny"):
            tests.append({"src": source, "dst": [target], expected: [user]})
            if expected != verdict:
                wrong.add(
                    f'test(s) failed: {source} as "{user}" at {target}:'
                    f" the test expects {expected}, the policy says {verdict}"
                )
    _, found = diagnose(text_of(ssh, sshTests=tests))
    assert {one.message for one in found if one.code == "policy.ssh-test-failed"} == wrong


def _client(snapshot: Snapshot, source: str, viewer: str, user: str) -> str:
    """Do what a client does with its SSH policy (spec 5.2)."""
    address = str(named(snapshot, source).ipv4)
    for rule in ssh_rules(snapshot, viewer):
        if address not in rule.principals:
            continue
        logins = dict(rule.logins)
        local = logins.get(user, logins.get("*", ""))
        if local == "" or (local == "=" and user == "root"):
            continue
        return "accept" if rule.check_period is None else "check"
    return "deny"


def test_the_answers_do_not_depend_on_a_snapshot() -> None:
    """Tests without addresses are decided alike whether devices are known or not."""
    test = {"src": "tag:db", "dst": ["tag:web"], "deny": ["root"]}
    compiled, _ = diagnose(text_of([], sshTests=[test]))
    assert isinstance(compiled, CompiledPolicy)
    assert run_ssh_tests(compiled) == run_ssh_tests(compiled, under([])) == ()
