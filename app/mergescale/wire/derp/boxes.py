"""The two boxes of a DERP handshake: ClientInfo and ServerInfo.

::

    ClientInfo   client node key 32 | nonce 24 | box(JSON)
    ServerInfo   nonce 24 | box(JSON)

The box is NaCl ``crypto_box`` (curve25519-xsalsa20-poly1305) between the client's node key and
the server's DERP key, so opening one proves that the peer holds the private half. Source:
tailscale ``derp/derp_client.go``, ``derp/derpserver``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from nacl.exceptions import CryptoError
from nacl.public import Box
from nacl.public import PrivateKey as BoxPrivateKey
from nacl.public import PublicKey as BoxPublicKey

from mergescale.kernel.errors import LocalProtocolError, RemoteProtocolError
from mergescale.kernel.keys import KEY_BYTES, NodeKey, PrivateKey
from mergescale.wire.derp.frames import NONCE_BYTES, PROTOCOL_VERSION

#: Key and nonce; a shorter ClientInfo has no box at all.
MIN_CLIENT_INFO_BYTES = KEY_BYTES + NONCE_BYTES


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """What a client says of itself.

    Attributes:
        version: protocol version, 2 for all clients in use.
        can_ack_pings: whether it answers pings.
        is_prober: whether it only measures the relay.
    """

    version: int = PROTOCOL_VERSION
    can_ack_pings: bool = False
    is_prober: bool = False


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What the server says of itself.

    Attributes:
        version: protocol version; WIRE(rust): must be 2.
    """

    version: int = PROTOCOL_VERSION


def node_key(private: PrivateKey) -> NodeKey:
    """Return the public half of a node's or a relay's private key."""
    return NodeKey(bytes(BoxPrivateKey(private.raw).public_key))


def open_client_info(payload: bytes, *, private: PrivateKey) -> tuple[NodeKey, ClientInfo]:
    """Open a ClientInfo payload with the server's private key.

    Returns:
        The key that the client proved to hold, and what it said.

    Raises:
        RemoteProtocolError: too short, not boxed by the key it names, or not a JSON object.
    """
    if len(payload) < MIN_CLIENT_INFO_BYTES:
        raise RemoteProtocolError("a client info is too short")
    key = NodeKey(payload[:KEY_BYTES])
    fields = _open(payload[KEY_BYTES:], private=private, peer=key)
    version = fields.get("version", 0)
    info = ClientInfo(
        version=version if type(version) is int else 0,
        can_ack_pings=fields.get("canackpings") is True,
        is_prober=fields.get("isprober") is True,
    )
    return key, info


def seal_client_info(
    info: ClientInfo, *, private: PrivateKey, server: NodeKey, nonce: bytes
) -> bytes:
    """Return a ClientInfo payload; `nonce` is 24 bytes, never used before with these keys."""
    fields = {"version": info.version, "CanAckPings": info.can_ack_pings}
    if info.is_prober:
        fields["IsProber"] = True
    return node_key(private).raw + _seal(fields, private=private, peer=server, nonce=nonce)


def seal_server_info(
    info: ServerInfo, *, private: PrivateKey, client: NodeKey, nonce: bytes
) -> bytes:
    """Return a ServerInfo payload; `nonce` is 24 bytes, never used before with these keys."""
    return _seal({"version": info.version}, private=private, peer=client, nonce=nonce)


def open_server_info(payload: bytes, *, private: PrivateKey, server: NodeKey) -> ServerInfo:
    """Open a ServerInfo payload with the client's private key.

    Raises:
        RemoteProtocolError: not boxed by that server, or not a JSON object with a version.
    """
    version = _open(payload, private=private, peer=server).get("version")
    if type(version) is not int:
        raise RemoteProtocolError("a server info without a version")
    return ServerInfo(version)


def _seal(fields: dict[str, Any], *, private: PrivateKey, peer: NodeKey, nonce: bytes) -> bytes:
    if len(nonce) != NONCE_BYTES:
        raise LocalProtocolError("the nonce of a derp box has 24 bytes")
    return bytes(_box(private, peer).encrypt(msgspec.json.encode(fields), nonce))


def _open(sealed: bytes, *, private: PrivateKey, peer: NodeKey) -> dict[str, Any]:
    """Open ``nonce | box`` and return the JSON object's fields under their folded names.

    WIRE(rust): it spells fields in snake case and sends the mesh key "none". So names are
    compared without case and underscores, and what we do not use is not looked at.
    """
    box = _box(private, peer)
    try:
        fields = msgspec.json.decode(box.decrypt(sealed), type=dict[str, Any])
    except CryptoError:
        raise RemoteProtocolError("a derp box does not open") from None
    except (ValueError, RecursionError):
        raise RemoteProtocolError("a derp box holds no json object") from None
    return {name.replace("_", "").lower(): value for name, value in fields.items()}


def _box(private: PrivateKey, peer: NodeKey) -> Box:
    try:
        return Box(BoxPrivateKey(private.raw), BoxPublicKey(peer.raw))
    except CryptoError:
        # libsodium refuses points of low order, with which anybody could know the shared key.
        raise RemoteProtocolError("a derp key is of low order") from None
