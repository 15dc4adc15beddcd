"""The composition root: the only place that knows every part and puts them together.

* ``edge``: all listeners, one application, start and stop.
* ``takeover``: HTTP/1.1, and the sockets that leave it for ``control`` or ``relay``.
* ``listeners``: which addresses to listen on, and how a listening socket is made.

What must hold: one lifecycle. The application's lifespan runs once however many listeners there
are; stopping is orderly (clients are told, handlers end, then the lifespan) and has a deadline.

What it does not do: anything of its own. Behaviour lives below; this package wires it.
"""
