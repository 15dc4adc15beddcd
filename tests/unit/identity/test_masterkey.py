"""The master key: its text tells damage, its fingerprint tells keys apart, its seals hold."""

from __future__ import annotations

import pytest

from mergescale.identity.masterkey import KEY_BYTES, NONCE_BYTES, MasterKey, Unopened
from mergescale.kernel.errors import Invalid
from support.clock import FakeEntropy

KEY = MasterKey(FakeEntropy("one").bytes(KEY_BYTES))
OTHER = MasterKey(FakeEntropy("two").bytes(KEY_BYTES))
NONCE = FakeEntropy("nonce").bytes(NONCE_BYTES)


def test_text_is_read_back() -> None:
    """Its own text gives the key, also with a line's end."""
    assert MasterKey.parse(f"{KEY.text}\n") == KEY
    assert len(KEY.text) == 86


@pytest.mark.parametrize("length", [0, 1, 13, 60, 77, 78, 85])
def test_a_text_cut_short_is_no_key(length: int) -> None:
    """However much is left of it, it is not taken for another key."""
    with pytest.raises(Invalid, match="it is cut short or is no master key"):
        MasterKey.parse(KEY.text[:length])


@pytest.mark.parametrize("position", range(13, 86))
def test_a_changed_digit_is_noticed(position: int) -> None:
    """A key with any one digit changed is refused, and the error shows nothing of it."""
    changed = "0" if KEY.text[position] != "0" else "1"
    if KEY.text[position] == "-":
        changed = "0"
    text = KEY.text[:position] + changed + KEY.text[position + 1 :]
    with pytest.raises(Invalid) as refused:
        MasterKey.parse(text)
    assert KEY.text[13:40] not in str(refused.value)


def test_it_shows_itself_nowhere() -> None:
    """Neither repr nor fingerprint holds any of the key."""
    assert KEY.raw.hex()[:8] not in repr(KEY) + KEY.fingerprint
    assert repr(KEY) == "MasterKey()"
    assert KEY.fingerprint != OTHER.fingerprint


def test_a_seal_opens_under_its_key_and_name_only() -> None:
    """Another key, another name, or any change, and it stays shut."""
    sealed = KEY.seal("noise", b"secret", NONCE)
    assert KEY.open("noise", sealed) == b"secret"
    assert b"secret" not in sealed
    flipped = bytes([sealed[0] ^ 1]) + sealed[1:]
    for key, name, value in [
        (OTHER, "noise", sealed),
        (KEY, "derp", sealed),
        (KEY, "noise", flipped),
        (KEY, "noise", sealed[:-1]),
        (KEY, "noise", b""),
    ]:
        with pytest.raises(Unopened):
            key.open(name, value)


def test_passphrases_differ_by_name_and_key() -> None:
    """One file's passphrase opens no other file."""
    phrases = {KEY.passphrase("a"), KEY.passphrase("b"), OTHER.passphrase("a")}
    assert len(phrases) == 3
    assert KEY.passphrase("a") == MasterKey(KEY.raw).passphrase("a")


def test_a_key_has_its_length() -> None:
    """Fewer bytes are no key."""
    with pytest.raises(Invalid):
        MasterKey(bytes(KEY_BYTES - 1))
