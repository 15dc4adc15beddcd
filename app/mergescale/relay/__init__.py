"""The relay: DERP connections and STUN answers on real sockets.

From the socket upwards::

    server.edge      owns the first request head, hands the socket over
    upgrade          ``/derp`` with ``Upgrade: DERP``: 101, or nothing when it is a fast start
    websocket        ``/derp`` as WebSocket; 426 for who asks without an upgrade
    channel          one client: bytes <-> ``wire.derp.ServerSession``, deadlines, back-pressure
    service          all clients: admission, who is connected, ``wire.derp.Relay``
    http             the Litestar handlers: latency probes and the WebSocket's path
    stun             UDP: which address do packets of mine come from?

What must hold: only a node key that the admission knows at this moment gets past the handshake,
and an admission that fails lets nobody in; `DerpService.drop` and `DerpService.recheck` end what
is connected already. One chunk of input costs one pass, with one write per receiver and no task.
A client that does not read costs others nothing, and what waits for it is bounded: the
transport's high-water mark, one chunk of each sender at that moment, and the lanes of
``wire.derp.Connection``.

What it does not do: keep anything. Packets are opaque and gone when delivered, a region is one
process (no mesh), and dead peers without a FIN are found by the kernel, as ``server.listeners``
sets it up. So there is no deadline for silence: a client with nothing to say is a healthy one.
"""
