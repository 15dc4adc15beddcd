"""What each client is told: a full map for a fresh stream, and after that only differences.

* ``encoder``: the entrance. One `Encoder` per tailnet gives `full` and `delta` as messages that are
  ready to be written, and keeps what it encoded and compressed for the next client.
* ``face``: one node as its peers see it, whole or as a patch. ``selfnode``: as it sees itself.
* ``blocks``: peers in blocks that many messages share, plain or compressed.
* ``filters``, ``ssh``, ``people``, ``deployment``: packet filter chunks, SSH policies, user
  profiles, and what a whole tailnet is told alike (DERPMap, DNSConfig, Domain).
* ``full`` and ``delta`` put them together; ``parts`` joins and compresses; ``audience`` says which
  clients a change can concern at all.

What must hold:

* INVARIANT(ledger): what a client was sent is the snapshot whose full map it now holds. Folding
  everything it received (spec 4.5, 4.6) gives that map; no memory per client and peer exists.
* No message names a peer, user, address or route that its receiver may not see. Only user profiles
  outlive their peers, because the protocol cannot take them back.
* One output for all clients: Go's and the stricter Rust ones read the same JSON (spec 2.10).
* Nothing to say is `None`, never an empty message.

What it does not do: no I/O, no clock, no tasks. Who is connected, and when something is sent, is
``fanout``'s; who may see whom is ``policy``'s, behind `domain.access.Access`.
"""

from mergescale.netmap.evaluate import evaluate

__all__ = ["evaluate"]
