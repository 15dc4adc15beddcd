"""Rules for devices that are in a certain state (`srcPosture`)."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mergescale.domain.record import Put
from mergescale.domain.snapshot import Snapshot
from support.policies import diagnose, filter_of, governed, sees
from support.worlds import named, routed, step

POSTURES = {"posture:mac": ["node:os == 'macos'"], "posture:new": ["node:tsVersion >= '1.60'"]}


def under(rule: dict[str, object], **sections: object) -> Snapshot:
    text = {"tagOwners": {"tag:a": []}, "postures": POSTURES, "acls": [rule], **sections}
    return governed("ana@example.com: laptop, phone; tag:a: web", json.dumps(text))


def said(snapshot: Snapshot, name: str, **hostinfo: str) -> Snapshot:
    return step(
        snapshot,
        [Put(replace(named(snapshot, name), hostinfo=json.dumps(hostinfo).encode()))],
    )


RULE: dict[str, object] = {"action": "accept", "src": ["ana@example.com"], "dst": ["tag:a:22"]}


def test_only_devices_with_one_of_the_postures_are_sources() -> None:
    """A device that changes its state gains or loses what its posture opens, and is (un)seen."""
    world = under({**RULE, "srcPosture": ["posture:mac", "posture:new"]})
    assert filter_of(world, "web") == []
    assert sees(world, "web") == set()

    world = said(world, "laptop", OS="macOS")
    assert [sources for sources, _, _ in filter_of(world, "web")] == [
        ["100.64.0.1", "fd7a:115c:a1e0::1"]
    ]
    world = said(world, "phone", OS="iOS", IPNVersion="1.66.1-t1")
    assert sees(world, "web") == {"laptop", "phone"}
    world = said(world, "laptop", OS="linux")
    assert sees(world, "web") == {"phone"}


def test_nothing_behind_a_router_has_a_posture() -> None:
    """With a posture ``*`` and addresses mean devices, not whole networks."""
    world = said(
        under({**RULE, "src": ["*", "10.1.0.0/16"], "srcPosture": ["posture:mac"]}),
        "phone",
        OS="macOS",
    )
    world = routed(world, "laptop", "10.1.0.0/16")

    assert [sources for sources, _, _ in filter_of(world, "web")] == [
        ["100.64.0.2", "fd7a:115c:a1e0::2"]
    ]


def test_the_source_needs_the_posture_not_its_other_devices() -> None:
    """To one's own devices, too: the one in order reaches the others, and they do not reach it."""
    rule = {"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self:22"]}
    world = said(under({**rule, "srcPosture": ["posture:mac"]}), "laptop", OS="macOS")

    mac = ["100.64.0.1", "fd7a:115c:a1e0::1"]
    assert [sources for sources, _, _ in filter_of(world, "phone")] == [mac]
    assert [sources for sources, _, _ in filter_of(world, "laptop")] == [mac]
    assert sees(world, "phone") == {"laptop"}
    world = said(world, "laptop", OS="linux")
    assert filter_of(world, "phone") == []
    assert sees(world, "phone") == set()


def test_a_written_address_with_a_posture_is_that_address() -> None:
    """Its device is not let in by its other address; a name beside it means both."""
    world = under(
        {**RULE, "src": ["100.64.0.1", "group:g"], "srcPosture": ["posture:mac"]},
        groups={"group:g": []},
    )
    world = said(said(world, "laptop", OS="macOS"), "phone", OS="macOS")

    assert [sources for sources, _, _ in filter_of(world, "web")] == [["100.64.0.1"]]
    named_too = under(
        {**RULE, "src": ["100.64.0.1", "ana@example.com"], "srcPosture": ["posture:mac"]}
    )
    named_too = said(named_too, "laptop", OS="macOS")
    assert sorted(sources for sources, _, _ in filter_of(named_too, "web")) == [
        ["100.64.0.1"],
        ["100.64.0.1", "fd7a:115c:a1e0::1"],
    ]


def test_the_default_holds_for_rules_that_ask_for_none() -> None:
    """An empty list asks for no posture at all."""
    world = under(RULE, defaultSrcPosture=["posture:mac"])
    assert sees(world, "web") == set()
    assert sees(said(world, "laptop", OS="macOS"), "web") == {"laptop"}

    open_to_all = under({**RULE, "srcPosture": []}, defaultSrcPosture=["posture:mac"])
    assert sees(open_to_all, "web") == {"laptop", "phone"}


@pytest.mark.parametrize(
    ("attributes", "passes"),
    [({"node:os": "macos"}, True), ({"node:os": "linux"}, False), (None, False)],
)
def test_tests_say_what_the_device_is_like(
    attributes: dict[str, str] | None, *, passes: bool
) -> None:
    """Without attributes a device has no posture; the old spellings of a test mean the same."""
    asked: dict[str, object] = {"user": "ana@example.com", "allow": ["tag:a:22"]}
    if attributes is not None:
        asked["srcPostureAttrs"] = attributes
    text = {
        "tagOwners": {"tag:a": []},
        "postures": POSTURES,
        "acls": [{**RULE, "srcPosture": ["posture:mac"]}],
        "tests": [asked],
    }
    policy, found = diagnose(json.dumps(text))

    assert (policy is not None) is passes
    if not passes:
        assert [one.code for one in found] == ["policy.test-failed"]


def test_an_unknown_posture_is_an_error() -> None:
    """A name that is close is suggested."""
    text = {"postures": POSTURES, "acls": [{**RULE, "dst": ["*:*"], "srcPosture": ["posture:mak"]}]}
    policy, found = diagnose(json.dumps(text))

    assert policy is None
    assert [(one.message, one.help) for one in found] == [
        ('posture not found: "posture:mak"', 'did you mean "posture:mac"?')
    ]
