"""Noise_IK_25519_ChaChaPoly_BLAKE2s with Tailscale's framing: the channel of ``/ts2021``.

A machine initiates, control responds; one message each way, then records in both directions::

    accepted = respond(initiation, static=..., ephemeral=...)   # control
    initiator = initiate(version=..., static=..., ephemeral=..., server=...)   # our own clients
    transport = initiator.finish(response)

What must hold: ephemeral keys are fresh for every handshake (they are arguments so that tests can
replay a transcript); ``Accepted.peer`` is who the connection belongs to and nothing else proves
it; a machine that failed once refuses everything after.

What it does not do: authorise. Any machine key completes a handshake (spec 2.9).
"""

from mergescale.wire.noise.early import early_payload, read_early_payload
from mergescale.wire.noise.handshake import Accepted, Initiator, initiate, respond
from mergescale.wire.noise.messages import (
    INITIATION_BYTES,
    RESPONSE_BYTES,
    Initiation,
    error_frame,
    prologue,
)
from mergescale.wire.noise.symmetric import KeyPair, public_key
from mergescale.wire.noise.transport import MAX_FRAME_BYTES, MAX_PLAINTEXT_BYTES, Transport

__all__ = [
    "INITIATION_BYTES",
    "MAX_FRAME_BYTES",
    "MAX_PLAINTEXT_BYTES",
    "RESPONSE_BYTES",
    "Accepted",
    "Initiation",
    "Initiator",
    "KeyPair",
    "Transport",
    "early_payload",
    "error_frame",
    "initiate",
    "prologue",
    "public_key",
    "read_early_payload",
    "respond",
]
