"""Plans as comments and for wider audiences: bounded, and without what they are not to tell."""

from __future__ import annotations

import msgspec
import pytest

from mergescale.plan.markdown import MARKER, MAX_CHARACTERS, as_markdown
from mergescale.plan.model import (
    VERSION,
    Blast,
    Delivery,
    Finding,
    Identity,
    NodeEffect,
    Plan,
    Reach,
    Tests,
    Verdict,
    decode,
    encode,
)
from mergescale.plan.redaction import Redaction, redacted
from mergescale.plan.text import as_text

WHOLE = Plan(
    version=VERSION,
    hash="0123456789abcdef" * 4,
    verdict=Verdict.MIXED,
    gained=(
        Reach(
            ("group:dev", "ana@example.com", "laptop (100.64.0.1)", "autogroup:member", "*"),
            ("tag:web", "10.0.0.0/24 via router", "fd7a:115c:a1e0::1-fd7a:115c:a1e0::9"),
            ("tcp:443", "22"),
            12,
        ),
    ),
    lost=(Reach(("user:*@example.com", "192.0.2.1"), ("web", "desk"), ("*",), 2),),
    edges_gained=("group:dev -> tag:web",),
    edges_lost=("tag:web -> tag:db", "tag:db -> tag:web"),
    nodes=(
        NodeEffect("laptop", filter=True, peers_gained=("web",)),
        NodeEffect("desk", filter=True, peers_gained=("web",)),
        NodeEffect("web", peers_lost=("desk", "laptop"), ssh=True),
    ),
    identity=Identity(
        roles=("ana@example.com: member -> admin",),
        approvers=("10.0.0.0/24: none -> tag:router",),
        settings=("dns.nameservers: 192.0.2.53 -> 2001:db8::53, none",),
    ),
    tests=Tests(
        run=3,
        newly_failing=("policy.hujson:7: ana@example.com should reach 100.64.0.3:22",),
        failing=("policy.hujson:7: ana@example.com should reach 100.64.0.3:22",),
        untested=("policy.d/web.hujson:3:4",),
    ),
    blast=Blast(14, 20, 3, 2, 1, ("desk",)),
    unresolved=("eve@example.com",),
    gates=(Finding("lockout", "1 administrator loses all access", ("ana@example.com",)),),
    delivery=Delivery(3, 2, 2, 1800, 0.15),
)
SECRETS = ("ana@", "eve@", "laptop", "desk", "router", "example.com", ":dev", "tag:", "db", "dns")
ADDRESSES = ("100.64", "10.0.0", "192.0.2", "fd7a", "2001:db8")


def test_counts_tell_how_many_of_what() -> None:
    """Verdict, ports, pairs, figures, gates and places of tests stay."""
    assert redacted(WHOLE, Redaction.COUNTS) == Plan(
        version=VERSION,
        hash=WHOLE.hash,
        verdict=Verdict.MIXED,
        gained=(
            Reach(
                ("1 group", "1 user", "1 device", "autogroup:member", "*"),
                ("1 tag", "2 addresses"),
                ("tcp:443", "22"),
                12,
            ),
        ),
        lost=(Reach(("1 domain", "1 address"), ("2 devices",), ("*",), 2),),
        edges_gained=("1 connection",),
        edges_lost=("2 connections",),
        nodes=(
            NodeEffect("2 devices", filter=True, peers_gained=("1 device",)),
            NodeEffect("1 device", peers_lost=("2 devices",), ssh=True),
        ),
        identity=Identity(("1 change",), (), (), ("1 change",), ("1 change",)),
        tests=Tests(3, ("policy.hujson:7",), ("policy.hujson:7",), ("policy.d/web.hujson:3:4",)),
        blast=Blast(14, 20, 3, 2, 1, ("1 device",)),
        unresolved=("1 name",),
        gates=(Finding("lockout", "1 administrator loses all access"),),
        delivery=Delivery(3, 2, 2, 1800, 0.15),
        redacted="counts",
    )


def test_names_are_told_without_addresses() -> None:
    """Those of devices, subnets, name servers and in messages; what is left is as it was."""
    told = redacted(WHOLE, Redaction.NAMES)

    named = ("laptop ([address])", "autogroup:member", "*")
    assert told.gained[0].src == (*WHOLE.gained[0].src[:2], *named)
    assert told.gained[0].dst == ("tag:web", "[address] via router", "[address]-[address]")
    assert told.tests.failing == ("policy.hujson:7: ana@example.com should reach [address]:22",)
    assert told.identity.settings == ("dns.nameservers: [address] -> [address], none",)
    assert (told.nodes, told.hash, told.redacted) == (WHOLE.nodes, WHOLE.hash, "names")


@pytest.mark.parametrize("render", [as_text, as_markdown, lambda plan: encode(plan).decode()])
def test_what_is_left_out_is_in_no_form(render: object) -> None:
    """And the reader is told that something is."""
    assert callable(render)
    full, names, counts = (str(render(redacted(WHOLE, one))) for one in Redaction)

    assert all(one in full for one in (*SECRETS[:8], *ADDRESSES[:2]))
    assert not [one for one in ADDRESSES if one in names]
    assert not [one for one in (*ADDRESSES, *SECRETS) if one in counts]
    assert "without addresses" in names or '"redacted": "names"' in names
    assert "without names" in counts or '"redacted": "counts"' in counts


def test_a_comment_is_never_longer_than_forges_take() -> None:
    """Whatever the plan: fewer rows first, and in the end the verdict and the hash alone."""
    login = f"{'x' * 300}@example.com"
    wide = Reach((login,) * 500, (login,) * 500, ("tcp:1",) * 500, 1)
    many = msgspec.structs.replace(
        WHOLE,
        gained=(wide,) * 400,
        lost=(wide,) * 400,
        nodes=tuple(NodeEffect(login, peers_gained=(login,) * 500) for _ in range(1000)),
    )
    absurd = msgspec.structs.replace(many, unresolved=("y" * 100_000,))
    for plan in (many, absurd):
        text = as_markdown(plan)
        assert len(text) <= MAX_CHARACTERS
        assert text.startswith(f"{MARKER}\n")
        assert text.endswith("<sub>plan 0123456789ab</sub>\n")
        assert "**Mixed**" in text
    assert "rows" in as_markdown(many)
    assert "The rest is too long for a comment" in as_markdown(absurd)


def test_the_json_of_older_versions_is_read() -> None:
    """Members that were added since have defaults."""
    old = b'{"version": 1, "hash": "00", "verdict": "no effect"}'

    assert decode(old) == Plan(1, "00", Verdict.NO_EFFECT)
    assert decode(encode(WHOLE)) == WHOLE
