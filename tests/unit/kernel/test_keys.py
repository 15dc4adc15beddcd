from __future__ import annotations

import pytest

from mergescale.kernel.errors import Invalid
from mergescale.kernel.keys import DiscoKey, Key, MachineKey, NodeKey, PrivateKey

RAW = bytes(range(32))
HEX = RAW.hex()


@pytest.mark.parametrize(
    ("kind", "prefix"), [(MachineKey, "mkey:"), (NodeKey, "nodekey:"), (DiscoKey, "discokey:")]
)
def test_text_form_round_trips(kind: type[Key], prefix: str) -> None:
    """A key is its prefix and 64 hex digits, of either case when read."""
    assert str(kind(RAW)) == prefix + HEX
    assert kind.parse(prefix + HEX.upper()) == kind(RAW)


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEX,
        "mkey:" + HEX,
        "nodekey:",
        "nodekey:" + HEX[:-2],
        "nodekey:" + HEX + "00",
        "nodekey:" + "g" * 64,
        "nodekey:" + " " + HEX[1:],
        "nodekey:" + HEX[:32] + " " + HEX[32:-1],
    ],
)
def test_bad_texts_are_refused_without_echo(text: str) -> None:
    """A text that is no key of the kind is refused, and the message does not repeat it."""
    with pytest.raises(Invalid) as refusal:
        NodeKey.parse(text)
    expected = {"a nodekey: key was expected", "a nodekey: key has 64 hex digits"}
    assert refusal.value.message in expected


def test_kind_is_part_of_the_key() -> None:
    """Keys of two kinds differ even with the same bytes."""
    keys: set[Key] = {NodeKey(RAW), MachineKey(RAW), NodeKey(RAW)}
    assert len(keys) == 2


def test_zero_key_means_none() -> None:
    """The zero key is legal and false."""
    assert not NodeKey.zero()
    assert NodeKey(RAW)
    assert NodeKey.parse("nodekey:" + "00" * 32) == NodeKey.zero()


@pytest.mark.parametrize("size", [0, 31, 33])
def test_key_has_32_bytes(size: int) -> None:
    """Bytes of another number are no key."""
    with pytest.raises(Invalid, match="a NodeKey has 32 bytes"):
        NodeKey(bytes(size))


def test_private_key_hides_itself() -> None:
    """A private key shows nothing in a repr, so nothing in a log."""
    assert repr(PrivateKey(RAW)) == "PrivateKey(…)"
    assert NodeKey(RAW).short == HEX[:8]
