"""The JSON of the control protocol: tailcfg's types as msgspec structs.

* ``names``: how a Python attribute is spelled on the wire, and the base of every struct.
* ``decode``: bodies of requests, matched without regard to case, to typed values.
* ``encode``: values to bytes, and maps as a join of members that were encoded before.
* ``capver``: which client versions are served, and what each may be sent.
* ``handshake`` (``/key``), ``register``, ``map_request``, ``map_response`` with its parts
  ``node``, ``hostinfo``, ``hostviews``, ``users``, ``filter``, ``dns``, ``derpmap``, ``ssh``.

What must hold, for Go clients and for the stricter Rust ones (spec 0.3, 2.10):

* A struct's members are exactly tailcfg's, spelled as Go spells them; a table in the tests says so.
* Nothing is ever sent as ``null`` but where `null` is the message (a filter chunk's deletion, a
  missing tailnet lock signature). A field with three meanings is absent (``msgspec.UNSET``),
  empty, or present, and its docstring tells which is which.
* Text that users control passes ``encode.plain`` first, so that it needs no JSON escape.
* A request yields a value or a ``RemoteProtocolError`` that repeats nothing the client sent.
* What a node says of itself reaches its peers through ``hostviews.peer_view`` only.

What it does not do: decide anything. Whether a key may register or a rule is right is ``state``'s
and ``policy``'s; framing and compression of maps is ``wire.mapframe``'s.
"""
