"""Bytes to values and back, for every protocol a client speaks to us. Sans-IO throughout.

* ``noise/``: the encrypted channel of ts2021 (handshake, records, early payload).
* ``tailcfg/``: the JSON that travels inside it.
* ``mapframe``: how MapResponses are framed and compressed in the body of ``/machine/map``.
* ``derp/``: the packet relay (frames, boxes, session, who gets which packet).
* ``stun``: the datagrams by which a client learns its own address.

What must hold: nothing here opens a socket, reads a clock or draws randomness; keys, nonces and
``now`` are arguments, so a transcript is a golden file. Whatever the peer sends yields a value or
a ``RemoteProtocolError``, never another exception, and its bytes are never echoed in a message.

What it does not do: decide who may connect, or what a map says.
"""
