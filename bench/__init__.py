"""A load generator that speaks the real protocol for thousands of clients, and what it measures.

    make bench                                             a server of its own, figures at three sizes
    python -m bench --url http://host:8080 --auth-key …    any compatible server

* ``http2``, ``messages``: HTTP/2 and map framing as far as one fixed conversation needs them, without I/O.
* ``link``, ``machine``, ``swarm``: one connection, one client, all of them.
* ``site``, ``served``, ``process``: the server under test, with a lag meter on its loop, and what the
  system says of its process.
* ``prober``: asks the API all the while, from a process of its own.
* ``measures``: one module for each kind of figure. ``results``: figures, verdicts, the table.

What must hold: a client counts as served when *it* has received and understood what it waits for, at the
moment its bytes arrived; nothing is read off the server that a client could tell. Every wait has a deadline.

What it does not do: judge correctness (the tests do), or run inside a test.
"""
