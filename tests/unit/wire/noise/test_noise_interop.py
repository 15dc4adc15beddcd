"""Our handshake against an independent implementation, PyPI's ``noiseprotocol``.

Its transport counts little-endian, as the Noise specification says and Tailscale does not, so
its keys and hash are taken and records are sealed with them here.
"""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from noise.connection import Keypair, NoiseConnection

from mergescale.kernel.keys import PrivateKey
from mergescale.wire.noise import Transport, initiate, prologue, public_key, respond

CONTROL = PrivateKey(b"\x11" * 32)
MACHINE = PrivateKey(b"\x22" * 32)
EPHEMERAL = PrivateKey(b"\x33" * 32)
VERSION = 142


def reference(private: PrivateKey) -> Any:
    connection = NoiseConnection.from_name(b"Noise_IK_25519_ChaChaPoly_BLAKE2s")
    connection.set_prologue(prologue(VERSION))
    connection.set_keypair_from_private_bytes(Keypair.STATIC, private.raw)
    return connection


def assert_channel(transport: Transport, send_key: bytes, receive_key: bytes) -> None:
    """Two records each way agree with the keys that the reference derived."""
    for counter in (0, 1):
        nonce = bytes(4) + counter.to_bytes(8, "big")
        theirs = ChaCha20Poly1305(send_key).encrypt(nonce, b"to us", None)
        assert transport.receive(b"\x04\x00" + bytes([len(theirs)]) + theirs) == b"to us"
        ours = transport.seal(b"from us")
        opened = ChaCha20Poly1305(receive_key).decrypt(nonce, ours[3:], None)
        assert opened == b"from us"


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_reference_client_talks_to_our_server() -> None:
    """Can a reference Noise IK client talk to our server?"""
    client = reference(MACHINE)
    client.set_as_initiator()
    client.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, public_key(CONTROL).raw)
    client.start_handshake()
    body = bytes(client.write_message())

    initiation = VERSION.to_bytes(2, "big") + b"\x01\x00\x60" + body
    accepted = respond(initiation, static=CONTROL, ephemeral=EPHEMERAL)
    client.read_message(accepted.response[3:])

    assert client.handshake_finished
    assert accepted.peer == public_key(MACHINE)
    assert accepted.handshake_hash == client.get_handshake_hash()
    protocol = client.noise_protocol
    assert_channel(
        accepted.transport,
        send_key=protocol.cipher_state_encrypt.k,
        receive_key=protocol.cipher_state_decrypt.k,
    )


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_our_client_talks_to_reference_server() -> None:
    """Can our client talk to a reference Noise IK server?"""
    server = reference(CONTROL)
    server.set_as_responder()
    server.start_handshake()
    initiator = initiate(
        version=VERSION, static=MACHINE, ephemeral=EPHEMERAL, server=public_key(CONTROL)
    )
    server.read_message(initiator.message[5:])
    body = bytes(server.write_message())
    transport = initiator.finish(b"\x02\x00\x30" + body)

    assert server.handshake_finished
    protocol = server.noise_protocol
    assert_channel(
        transport,
        send_key=protocol.cipher_state_encrypt.k,
        receive_key=protocol.cipher_state_decrypt.k,
    )
