"""One handshake, byte for byte, from `tests/corpus/noise/handshake-v130.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mergescale.kernel.keys import MachineKey, PrivateKey
from mergescale.wire.noise import Accepted, Transport, initiate, prologue, public_key, respond

CORPUS = Path(__file__).parents[3] / "corpus" / "noise" / "handshake-v130.json"


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(CORPUS.read_text())
    return loaded


def private(golden: dict[str, Any], name: str) -> PrivateKey:
    return PrivateKey(bytes.fromhex(golden[name]))


def accept(golden: dict[str, Any]) -> Accepted:
    return respond(
        bytes.fromhex(golden["initiation"]),
        static=private(golden, "control_private"),
        ephemeral=private(golden, "control_ephemeral"),
    )


def connect(golden: dict[str, Any]) -> Transport:
    initiator = initiate(
        version=golden["version"],
        static=private(golden, "machine_private"),
        ephemeral=private(golden, "machine_ephemeral"),
        server=MachineKey(bytes.fromhex(golden["control_public"])),
    )
    assert initiator.message.hex() == golden["initiation"]
    return initiator.finish(bytes.fromhex(golden["response"]))


def test_public_keys_follow_from_private_ones(golden: dict[str, Any]) -> None:
    """Both static public keys are those of the transcript."""
    publics = [public_key(private(golden, f"{who}_private")) for who in ("control", "machine")]
    expected = [golden["control_public"], golden["machine_public"]]
    assert [key.raw.hex() for key in publics] == expected


def test_prologue_spells_the_version_without_padding() -> None:
    """The prologue is the ASCII text with a plain decimal number."""
    assert prologue(130) == b"Tailscale Control Protocol v130"
    assert prologue(7) == b"Tailscale Control Protocol v7"


def test_responder_reproduces_the_transcript(golden: dict[str, Any]) -> None:
    """Control answers the recorded initiation with the recorded response."""
    accepted = accept(golden)
    assert (accepted.version, accepted.peer.raw.hex()) == (130, golden["machine_public"])
    assert accepted.response.hex() == golden["response"]
    assert accepted.handshake_hash.hex() == golden["handshake_hash"]


def test_control_seals_the_recorded_records(golden: dict[str, Any]) -> None:
    """Control's first two records have nonces 0 and 1, big-endian, under key 2."""
    transport = accept(golden).transport
    plaintext = bytes.fromhex(golden["plaintext"])
    sealed = [transport.seal(plaintext).hex(), transport.seal(plaintext).hex()]
    assert sealed == golden["records_to_machine"]


def test_control_opens_the_recorded_records(golden: dict[str, Any]) -> None:
    """Control reads two records of the machine, sealed under key 1."""
    transport = accept(golden).transport
    opened = [transport.receive(bytes.fromhex(r)) for r in golden["records_to_control"]]
    assert opened == [b"hello", b"hello"]


def test_machine_reproduces_the_transcript(golden: dict[str, Any]) -> None:
    """Our initiator sends the recorded initiation and both directions agree with the record."""
    transport = connect(golden)
    sealed = [transport.seal(b"hello").hex(), transport.seal(b"hello").hex()]
    assert sealed == golden["records_to_control"]
    assert transport.receive(bytes.fromhex("".join(golden["records_to_machine"]))) == b"hellohello"
