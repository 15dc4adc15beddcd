"""DERP: packets from node key to node key through a relay, when no direct path works.

* ``frames``: types, encoders, and the reader that cuts a byte stream into frames.
* ``boxes``: the two boxed JSON texts by which client and server know each other.
* ``session``: one connection at the server, from ServerKey to packets.
* ``relay``, ``connection``: all connections of a region: who gets which packet, and what is
  dropped when somebody is slow.
* ``client``: the other end, for test and load clients.

How a shell with sockets uses it, once per chunk of bytes::

    for event in session.receive(data):
        match event:
            case ClientInfoReceived(key=key):       # may `key` connect? then, in one go,
                ahead = session.admit(nonce)        # (or session.refuse(), and disconnect)
                transport.write(session.take())
                connection = relay.register(key)    # and handle the events in `ahead`
            case PacketsReceived(payloads=payloads):
                relay.forward(connection, payloads, now)
            case PingReceived(data=data):
                relay.ping(connection, data)
            case PreferenceReceived():
                relay.touch(connection)
    for connection, data in relay.drain():
        transports[connection].write(data)

and besides: ``relay.pause`` and ``relay.resume`` when a transport's buffer fills and empties,
``relay.keep_alive`` by timer, ``relay.unregister`` when a transport closed, each but ``pause``
followed by ``drain``.

What must hold: a slow reader costs others nothing and a bounded amount of memory; nobody sends
under a key that it did not prove; packets are opaque. ServerInfo is the first frame after
ClientInfo, and Health or Restarting are never sent, as the Rust client ends at either.

What it does not do: mesh. One process is its whole region, and packets never cross regions
(spec 7.4), so mesh keys are ignored and mesh frames refused.
"""

from mergescale.wire.derp.boxes import ClientInfo, ServerInfo, node_key
from mergescale.wire.derp.client import ClientSession
from mergescale.wire.derp.connection import Connection
from mergescale.wire.derp.frames import FrameReader, FrameType, PeerGoneReason, is_disco
from mergescale.wire.derp.relay import Counters, Relay
from mergescale.wire.derp.session import (
    HANDSHAKE_TIMEOUT_S,
    KEEPALIVE_JITTER_S,
    KEEPALIVE_S,
    WRITE_TIMEOUT_S,
    ClientInfoReceived,
    PacketsReceived,
    PingReceived,
    PreferenceReceived,
    ServerEvent,
    ServerSession,
)

__all__ = [
    "HANDSHAKE_TIMEOUT_S",
    "KEEPALIVE_JITTER_S",
    "KEEPALIVE_S",
    "WRITE_TIMEOUT_S",
    "ClientInfo",
    "ClientInfoReceived",
    "ClientSession",
    "Connection",
    "Counters",
    "FrameReader",
    "FrameType",
    "PacketsReceived",
    "PeerGoneReason",
    "PingReceived",
    "PreferenceReceived",
    "Relay",
    "ServerEvent",
    "ServerInfo",
    "ServerSession",
    "is_disco",
    "node_key",
]
