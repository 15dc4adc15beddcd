"""The control protocol: from the upgrade of ``/ts2021`` to the handlers of ``/machine/*``.

From the socket upwards::

    server.takeover  owns the first request head, hands the socket over
    upgrade          handshake text -> refusal | error frame | channel; who has no standing is a ``crowd``
    channel          Noise records <-> plaintext, on a socket or behind ``websocket``
    bridge           HTTP/2 server: one ASGI call per stream (``exchange``)
    scope            ``scope["state"]["peer"]`` is the machine key, ``["capability_version"]`` an int
    the inner app    ``app``: register, poll, c2n; sees nothing of the above

``public`` and ``bootstrap`` are what the outer application answers without any of it: the trust
anchor, admission for relays, help for clients in broken networks.

What must hold: a handler learns the machine key from the scope only, and checks on every request
that the node key in the body belongs to it (spec 2.9). One client, of which nothing is known but
that it holds some machine key, cannot cost more than ``limits`` says.

What it does not do: decide. Handlers turn requests into decisions of ``state`` and snapshots into
maps by ``netmap``.
"""
