"""Our decisions beside those of the hosted control plane."""

from __future__ import annotations

import pytest

from support import captures
from support.captures import Case
from support.policies import diagnose

needs_captures = pytest.mark.skipif(
    not captures.CAPTURES.exists(), reason="the captures are not beside this checkout"
)


def group(name: str) -> list[Case]:
    return [case for case in captures.cases() if case["group"] == name]


@needs_captures
@pytest.mark.parametrize("name", captures.GROUPS)
def test_decisions_are_those_of_the_hosted_service(name: str) -> None:
    """Every policy that this version can say gives each node the captured filter and peers."""
    differing: dict[str, list[str]] = {}
    said = 0
    for case in group(name):
        if case["expect"]["status"] != 200 or captures.is_contradictory(case):
            continue
        policy, found = diagnose(case["policy"])
        if policy is None:
            unsupported = any("not supported" in one.message for one in found)
            assert unsupported, (case["id"], [one.message for one in found])
            continue
        said += 1
        if faults := captures.faults(case, captures.snapshot(case, policy)):
            differing[case["id"]] = faults

    assert said
    assert differing.keys() == captures.UNEXPLAINED & differing.keys(), differing


@needs_captures
@pytest.mark.parametrize("name", captures.GROUPS)
def test_rejections_are_those_of_the_hosted_service(name: str) -> None:
    """What the hosted service rejects is rejected here, for the same reason."""
    for case in group(name):
        if case["expect"]["status"] == 200:
            continue
        policy, found = diagnose(case["policy"])
        messages = [one.message for one in found]
        assert policy is None, case["id"]
        if not any("not supported" in message for message in messages):
            assert any(case["expect"]["message"] in one for one in messages), (case["id"], messages)
