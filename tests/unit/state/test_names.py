from __future__ import annotations

import pytest

from mergescale.domain.record import Put
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.errors import Invalid
from mergescale.kernel.ids import NodeId, TailnetName, UserId
from mergescale.state import names
from support.worlds import named, node, step, world


@pytest.mark.parametrize(
    ("hostname", "label"),
    [
        ("laptop", "laptop"),
        ("Laptop", "laptop"),
        ("Ana's MacBook Pro", "anas-macbook-pro"),
        ("Ana\u2019s MacBook.local", "anas-macbook"),
        ("nas.lan", "nas"),
        ("vm.localdomain", "vm"),
        ("vm.lan.local", "vm"),
        ("web-1.prod.example.com", "web-1-prod-example-com"),
        ("a_b@c.d", "a-b-c-d"),
        ("--x--", "x"),
        ("..x..", "x"),
        ("über", "ber"),
        ("日本", "node"),
        ("", "node"),
        ("-", "node"),
        (".local", "node"),
        ("x" * 70, "x" * 63),
        ("x" * 62 + "-y", "x" * 62),
        ("a\x00b\n", "ab"),
        ("DESKTOP-ÄÖ1", "desktop-1"),
    ],
)
def test_hostname_becomes_label(hostname: str, label: str) -> None:
    """Host names become labels by the hosted service's rules; nothing left becomes `node`."""
    assert names.sanitise(hostname) == label


@pytest.mark.parametrize("text", ["", "-a", "a-", "a.b", "a b", "a_b", "ä", "x" * 64])
def test_bad_labels_are_refused(text: str) -> None:
    """An operator's name has to be a DNS label as it is."""
    with pytest.raises(Invalid, match="is not a name for a node"):
        names.parse_label(text)


def test_label_is_lowered() -> None:
    """An operator's name is taken in lower case, without white space around it."""
    assert names.parse_label(" Web-1 ") == "web-1"


def test_number_tells_namesakes_apart() -> None:
    """The first free number is taken, also one that became free."""
    before = world("alice@example.com: laptop, laptop-1, laptop-3")
    assert names.free(before, "laptop") == "laptop-2"
    assert names.free(before, "phone") == "phone"


def test_own_name_is_free() -> None:
    """A node may keep the label it has."""
    before = world("alice@example.com: laptop, laptop-1")
    assert names.free(before, "laptop", named(before, "laptop-1").id) == "laptop-1"


def test_number_fits_into_a_long_label() -> None:
    """The base gives way to the number, and leaves no hyphen before it."""
    long = "x" * 61 + "-y"
    before = world(f"alice@example.com: {long}")
    assert names.free(before, long) == "x" * 61 + "-1"


def test_a_thousand_namesakes_at_the_longest_label_all_have_a_name() -> None:
    """Each is a label that no other has; one that becomes free is the next to be given."""
    long = "x" * 70
    held: dict[str, NodeId] = {}
    for number in range(1, 1001):
        label = names.free(Snapshot(TailnetName("default"), names=held), long)
        assert label not in held
        assert names.parse_label(label) == label
        held[label] = NodeId(number)
    assert {len(label) for label in held} == {63}
    del held["x" * 60 + "-17"]
    assert names.free(Snapshot(TailnetName("default"), names=held), long) == "x" * 60 + "-17"


def test_thousands_of_namesakes_cost_few_looks() -> None:
    """Namesakes beyond the first dozens are found by steps, and still never collide."""

    class Counted(dict[str, NodeId]):
        looks = 0

        def get(self, key: str, default: object = None) -> object:  # type: ignore[override]
            self.looks += 1
            return super().get(key, default)

    held = Counted({"box": NodeId(1)} | {f"box-{i}": NodeId(1 + i) for i in range(1, 5000)})
    empty = Snapshot(TailnetName("default"), names=held)
    assert names.free(empty, "box") == "box-5000"
    assert held.looks < 100


def test_gap_between_namesakes_gives_a_free_name() -> None:
    """With gaps some free number is found; it need not be the lowest beyond the first dozens."""
    held = {"box": NodeId(1)} | {f"box-{i}": NodeId(i) for i in range(1, 200) if i not in {90, 150}}
    empty = Snapshot(TailnetName("default"), names=held)
    found = names.free(empty, "box")
    assert found not in held
    before = step(empty, [Put(node(1, found, user=UserId(1)))])
    assert names.free(before, "box") != found
