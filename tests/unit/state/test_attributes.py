from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mergescale.domain.declaration import Declaration
from mergescale.domain.posture import AttributeValue, CustomAttribute
from mergescale.domain.record import Put
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.errors import Conflict, Forbidden, Invalid, NotFound
from mergescale.kernel.ids import NodeId
from mergescale.policy.device import attributes_of
from mergescale.state import attributes, upkeep
from mergescale.state.outcome import Decision
from support.clock import START
from support.policies import filter_of, governed, policy
from support.worlds import named, step, world

A, B = NodeId(1), NodeId(2)
LATER = START + timedelta(hours=1)
POLICY = """{"acls": [], "attrConfig": {
    "custom:score": {"type": "number"},
    "custom:mode": {"type": "string", "allowSetByNode": true},
    "custom:free": {"allowSetByNode": true}}}"""


def people(**custom: AttributeValue) -> Snapshot:
    before = world("alice@example.com: a, b", declaration=Declaration(policy(POLICY)))
    kept = tuple(CustomAttribute(f"custom:{name}", custom[name]) for name in sorted(custom))
    return step(before, [Put(replace(named(before, "a"), custom=kept))])


def after(before: Snapshot, decision: Decision[Any]) -> Snapshot:
    return decision(before, START).snapshot


def held(snapshot: Snapshot) -> dict[str, AttributeValue]:
    return {one.name: one.value for one in snapshot.nodes[A].custom}


def put(name: str, value: AttributeValue, **more: Any) -> Decision[Any]:
    return attributes.put(A, CustomAttribute(name, value, **more))


def test_attributes_are_set_replaced_and_deleted() -> None:
    """Each by its name, sorted; the other device has none of them."""
    world_ = after(people(), put("custom:score", 80.0))
    world_ = after(world_, put("custom:b", True))
    world_ = after(world_, put("custom:score", 81.0, expires=LATER))
    assert world_.nodes[A].custom == (
        CustomAttribute("custom:b", True),
        CustomAttribute("custom:score", 81.0, LATER),
    )
    assert world_.nodes[B].custom == ()

    world_ = after(world_, attributes.delete(A, "custom:b"))
    assert held(world_) == {"custom:score": 81.0}
    with pytest.raises(NotFound):
        after(world_, attributes.delete(A, "custom:b"))


def test_what_is_set_already_writes_nothing() -> None:
    """The same value again is no change."""
    before = people(b="x")
    assert put("custom:b", "x")(before, START).writes == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("node:os", "x"),
        ("custom:", "x"),
        ("custom:a-b", "x"),
        ("custom:" + "a" * 122, "x"),
        ("custom:a", "x" * 51),
        ("custom:a", "a b"),
        ("custom:a", 1.5),
        ("custom:a", 2.0**53),
        ("custom:a", float("inf")),
        ("custom:score", "high"),
        ("custom:score", True),
    ],
)
def test_what_is_no_attribute_is_refused(name: str, value: AttributeValue) -> None:
    """By its name, its value, or the type that the policy gives it."""
    with pytest.raises(Invalid):
        after(people(), put(name, value))


def test_limits_of_names_and_values() -> None:
    """The longest name and text and the largest number are fine."""
    name = "custom:" + "a" * 121
    for value in ("x" * 50, "", 2.0**53 - 1, -(2.0**53 - 1), False):
        assert held(after(people(), put(name, value))) == {name: value}


def test_names_that_differ_in_case_only_conflict() -> None:
    """One of them is enough."""
    with pytest.raises(Conflict):
        after(people(tier="x"), put("custom:Tier", "y"))


def test_a_device_has_so_many_attributes_and_no_more() -> None:
    """The last one fits; replacing one of a full set does too."""
    full = {f"n{number:03}": 1.0 for number in range(attributes.MAX_ATTRIBUTES)}
    with pytest.raises(Conflict):
        after(people(**full), put("custom:other", 1.0))
    assert held(after(people(**full), put("custom:n000", 2.0)))["custom:n000"] == 2.0


def test_an_expiry_in_the_past_is_refused() -> None:
    """It would be gone at once."""
    with pytest.raises(Invalid, match="past"):
        after(people(), put("custom:a", 1.0, expires=START))


def test_attributes_lapse() -> None:
    """The sweep removes what is over, and only that."""
    before = after(people(a="x"), put("custom:b", 1.0, expires=LATER))
    early = LATER - timedelta(seconds=1)
    assert not upkeep.due(before, early)
    assert upkeep.sweep()(before, early).writes == ()

    assert upkeep.due(before, LATER)
    outcome = upkeep.sweep()(before, LATER)
    assert held(outcome.snapshot) == {"custom:a": "x"}
    assert outcome.answer == upkeep.Swept(0, 0, 0, 1)


def test_a_device_sets_what_the_policy_lets_it_set() -> None:
    """Several at once; None takes one away."""
    before = people(mode="old", score=5.0)
    own = attributes.set_by_node(A, {"custom:mode": None, "custom:free": 3.0})
    assert held(after(before, own)) == {"custom:free": 3.0, "custom:score": 5.0}


@pytest.mark.parametrize("name", ["custom:score", "custom:other", "node:os"])
def test_a_device_sets_nothing_else(name: str) -> None:
    """All or none: what it may set is not set either, and nothing of others is taken away."""
    before = people(score=5.0)
    for value in (1.0, None):
        with pytest.raises(Forbidden):
            after(before, attributes.set_by_node(A, {"custom:mode": "x", name: value}))


def test_a_device_is_held_to_types_as_well() -> None:
    """The policy's type counts whoever sets it."""
    with pytest.raises(Invalid):
        after(people(), attributes.set_by_node(A, {"custom:mode": 1.0}))


def test_conditions_see_custom_attributes() -> None:
    """They stand beside what the client says."""
    found = attributes_of(people(tier="prod").nodes[A])
    assert (found["custom:tier"], found["node:os"]) == ("prod", "linux")


def test_an_attribute_opens_what_a_posture_allows_and_closes_it_when_it_lapses() -> None:
    """Setting it is enough: the filter of the destination follows, and follows again at its end."""
    rules = """{"postures": {"posture:prod": ["custom:tier == 'prod'"]}, "acls": [
        {"action": "accept", "src": ["alice@example.com"], "dst": ["bob@example.com:80"],
         "srcPosture": ["posture:prod"]}]}"""
    before = governed("alice@example.com: a; bob@example.com: b", rules)
    assert filter_of(before, "b") == []

    opened = after(before, put("custom:tier", "prod", expires=LATER))
    opened = step(before, [Put(opened.nodes[A])])
    assert filter_of(opened, "b") == [
        (["100.64.0.1", "fd7a:115c:a1e0::1"], ["100.64.0.2:80", "fd7a:115c:a1e0::2:80"], [])
    ]

    swept = upkeep.sweep()(opened, LATER).snapshot
    assert filter_of(step(opened, [Put(swept.nodes[A])]), "b") == []
