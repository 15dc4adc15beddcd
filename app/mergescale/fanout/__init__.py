"""Who is connected, what each client still has to hear, and when it hears it.

* ``hub``: one per tailnet; the engine's feed on one side, one `Client` per open map stream on the
  other. ``control.poll`` writes what a client yields and says when it was written.
* ``mailbox``: the ledger of one client: what it holds, what is on its way, what is pending.
* ``presence``: turns streams that open and close into presence decisions, after a grace period.
* ``turns``: costly beginnings, a few in each turn of the loop.
* ``timers``: the part of the event loop that these need, so that tests can move time.

What must hold:

* Publishing never blocks, never raises and is cheap for each client; a delta is computed by the
  client's own task when it has room for it.
* A mailbox, not a queue: at most one pending change per client. A slow client gets a bigger step.
* INVARIANT(ledger): what a client holds advances only after the write returned.
* A client whose map cannot have changed is not woken and gets nothing.

What it does not do: the maps themselves (``netmap``), HTTP and deadlines of writes (``control``),
decisions (``state``).
"""
