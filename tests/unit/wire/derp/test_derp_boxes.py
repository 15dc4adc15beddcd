"""ClientInfo and ServerInfo: who opens what, and which JSON is understood."""

from __future__ import annotations

import pytest
from nacl.public import Box
from nacl.public import PrivateKey as BoxPrivateKey
from nacl.public import PublicKey as BoxPublicKey

from mergescale.kernel.errors import LocalProtocolError, RemoteProtocolError
from mergescale.kernel.keys import NodeKey, PrivateKey
from mergescale.wire.derp import ClientInfo, ServerInfo, node_key
from mergescale.wire.derp.boxes import (
    open_client_info,
    open_server_info,
    seal_client_info,
    seal_server_info,
)

RELAY = PrivateKey(b"\x09" * 32)
CLIENT = PrivateKey(b"\x02" * 32)
OTHER = PrivateKey(b"\x05" * 32)
NONCE = b"\x22" * 24


def boxed(json: bytes) -> bytes:
    """Build a ClientInfo payload with PyNaCl alone."""
    box = Box(BoxPrivateKey(CLIENT.raw), BoxPublicKey(node_key(RELAY).raw))
    return node_key(CLIENT).raw + bytes(box.encrypt(json, NONCE))


@pytest.mark.parametrize(
    ("json", "expected"),
    [
        (b'{"version":2,"CanAckPings":true}', ClientInfo(2, can_ack_pings=True)),
        (b'{"VERSION":2,"canackpings":true}', ClientInfo(2, can_ack_pings=True)),
        (
            b'{"mesh_key":"none","version":2,"can_ack_pings":true,"is_prober":false}',
            ClientInfo(2, can_ack_pings=True),
        ),
        (b'{"meshKey":"not hex","version":2}', ClientInfo(2)),
        (b'{"version":2,"IsProber":true,"AppName":"x","new":[{}]}', ClientInfo(2, is_prober=True)),
        (b'{"version":"2","CanAckPings":1}', ClientInfo(0)),
        (b"{}", ClientInfo(0)),
    ],
    ids=["go", "case", "rust", "mesh-key", "unknown", "types", "empty"],
)
def test_client_info_is_read_leniently(json: bytes, expected: ClientInfo) -> None:
    """Names count without case and underscores, the rest is ignored."""
    assert open_client_info(boxed(json), private=RELAY) == (node_key(CLIENT), expected)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        boxed(b"{}")[:55],
        boxed(b"{}")[:56],
        boxed(b"{}")[:-1],
        boxed(b"{}")[:-1] + b"\xff",
        node_key(OTHER).raw + boxed(b"{}")[32:],
        bytes(32) + boxed(b"{}")[32:],
        boxed(b""),
        boxed(b"[]"),
        boxed(b"{"),
        boxed(b'{"\xff":1}'),
        boxed(b'{"a":' + b"[" * 100_000),
    ],
    ids=[
        "empty",
        "no-nonce",
        "no-box",
        "cut",
        "tag",
        "other-key",
        "zero-key",
        "no-json",
        "list",
        "open",
        "not-utf8",
        "deep",
    ],
)
def test_bad_client_info_is_the_peers_fault(payload: bytes) -> None:
    """Whoever cannot box an object with the key it names is refused."""
    with pytest.raises(RemoteProtocolError):
        open_client_info(payload, private=RELAY)


def test_client_info_round_trips() -> None:
    """What a client seals the relay opens, and nobody else."""
    info = ClientInfo(2, can_ack_pings=True, is_prober=True)
    payload = seal_client_info(info, private=CLIENT, server=node_key(RELAY), nonce=NONCE)
    assert open_client_info(payload, private=RELAY) == (node_key(CLIENT), info)
    with pytest.raises(RemoteProtocolError):
        open_client_info(payload, private=OTHER)


def test_server_info_round_trips() -> None:
    """What the relay seals that client opens, and nobody else."""
    payload = seal_server_info(ServerInfo(), private=RELAY, client=node_key(CLIENT), nonce=NONCE)
    assert open_server_info(payload, private=CLIENT, server=node_key(RELAY)) == ServerInfo(2)
    with pytest.raises(RemoteProtocolError):
        open_server_info(payload, private=OTHER, server=node_key(RELAY))


def test_nonce_has_24_bytes() -> None:
    """Another length is our own mistake."""
    with pytest.raises(LocalProtocolError):
        seal_server_info(ServerInfo(), private=RELAY, client=node_key(CLIENT), nonce=bytes(12))


def test_low_order_key_is_refused() -> None:
    """Nobody seals for the zero key."""
    with pytest.raises(RemoteProtocolError, match="low order"):
        seal_client_info(ClientInfo(), private=CLIENT, server=NodeKey.zero(), nonce=NONCE)
