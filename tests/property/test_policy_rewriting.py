"""Ways of writing a policy that must not matter, and where problems are said to be."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mergescale.domain.declaration import Declaration
from mergescale.plan.build import make_plan
from mergescale.plan.side import Side
from mergescale.policy import hujson
from support.policies import diagnose, policy, underlined
from support.worlds import routed, world

NODES = "ana@example.com: n1, n2; ben@example.com: n3; tag:a: n4; tag:b: n5"
GROUPS = {"group:g": ["ana@example.com", "ben@example.com"], "group:h": ["ben@example.com"]}
HOSTS = {"printer": "10.1.2.3", "office": "10.1.0.0/16", "desk": "100.64.0.3"}
IP_SETS = {"ipset:lab": ["office", "remove 10.1.2.0/24", "fd00:1::/64"]}
INLINED = {
    **GROUPS,
    **{name: [address] for name, address in HOSTS.items()},
    "ipset:lab": ["10.1.0.0-10.1.1.255", "10.1.3.0-10.1.255.255", "fd00:1::/64"],
}
NAMES = [*INLINED, "tag:a", "tag:b", "autogroup:member"]

entries = st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True)
grants = st.lists(
    st.fixed_dictionaries(
        {
            "src": entries,
            "dst": entries,
            "ip": st.lists(
                st.sampled_from(["22", "tcp:80-90", "udp:*", "*"]), min_size=1, max_size=2
            ),
        }
    ),
    min_size=1,
    max_size=3,
)


def whole(rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "groups": GROUPS,
        "hosts": HOSTS,
        "ipsets": IP_SETS,
        "tagOwners": {"tag:a": ["group:g"], "tag:b": []},
        "grants": rules,
    }


def side(text: str) -> Side:
    declaration = Declaration(policy(text))
    snapshot = routed(world(NODES, declaration=declaration), "n4", "10.1.0.0/16", "fd00:1::/64")
    return Side(text, declaration, snapshot)


def same(one: str, other: str) -> None:
    plan = make_plan(side(one), side(other), "i")
    assert (plan.verdict, plan.nodes) == ("no effect", ())


@settings(max_examples=40, deadline=None)
@given(rules=grants)
def test_a_name_means_what_it_stands_for(rules: list[dict[str, Any]]) -> None:
    """Groups, hosts and ipsets written out give everybody the same filter."""
    inlined = [
        {
            key: [each for one in values for each in INLINED.get(one, [one])]
            if key != "ip"
            else values
            for key, values in rule.items()
        }
        for rule in rules
    ]
    same(json.dumps(whole(rules)), json.dumps(whole(inlined)))


@settings(max_examples=40, deadline=None)
@given(rules=grants, seed=st.integers(0, 2**32))
def test_comments_and_layout_do_not_matter(rules: list[dict[str, Any]], seed: int) -> None:
    """Neither comments in odd places, nor trailing commas, nor what `format` makes of it."""
    dice = random.Random(seed)  # noqa: S311 - layout
    text = json.dumps(whole(rules))
    noisy = "".join(
        f"{char}{dice.choice(['', ' ', chr(10), '/* x */', '// y' + chr(10)])}"
        if char in "[{,:" and not _in_string(text, at)
        else char
        for at, char in enumerate(text)
    )
    for other in (noisy, hujson.format(noisy), hujson.minimize(noisy), hujson.standardize(noisy)):
        same(text, other)


def _in_string(text: str, at: int) -> bool:
    return text.count('"', 0, at) % 2 == 1


@settings(max_examples=150, deadline=None)
@given(
    rules=grants,
    pick=st.integers(0, 10_000),
    junk=st.sampled_from(["tag:no", "%%", "x y@", "", "group:no"]),
)
def test_a_problem_is_where_the_text_is_wrong(
    rules: list[dict[str, Any]], pick: int, junk: str
) -> None:
    """Every span holds whole words of the text; one of them holds what was spoilt."""
    sections = whole(rules)
    places = [
        (rule, key, at)
        for rule in sections["grants"]
        for key in ("src", "dst", "ip")
        for at in range(len(rule[key]))
    ]
    rule, key, at = places[pick % len(places)]
    rule[key] = [*rule[key][:at], junk, *rule[key][at + 1 :]]
    text = json.dumps(sections, indent=1)
    found = diagnose(text)[1]

    for one in found:
        lines = text[: one.span.offset_start].count("\n") + 1
        shown = underlined(text, one)
        assert one.span.start_line == lines
        assert shown == shown.strip() != ""
    assert any(json.dumps(junk) in underlined(text, one) for one in found)
