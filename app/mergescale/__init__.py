"""Mergescale: a coordination server for Tailscale clients whose truth is a git repository.

Lowest layer first; a package imports only from lines below its own (enforced, see pyproject.toml):

    kernel                                 keys and ids as types, clock and entropy as arguments
    wire | domain                          bytes <-> values without I/O | the frozen nouns, snapshots
    policy                                 HuJSON -> diagnostics | a compiled policy
    state | netmap | identity              the waist: decisions and one writer | maps and deltas | who
    fanout | store | plan                  one mailbox per connected client | SQL | what a change will do
    control | relay | api | web | gitops   ts2021 | DERP and STUN | REST | pages | the watched repository
    server                                 composition root: settings, wiring, listeners, lifecycle
    cli                                    talks HTTP to the API; policy commands work offline, backups at the database

Three flows, all forward; a loop closes only through a new decision:

    commit     gitops.watch -> fetch -> verify -> check -> test -> compile -> gates -> state.policies
               -> store -> fanout -> netmap.delta -> control.poll -> client
    client     server.edge -> control.upgrade -> wire.noise -> control.bridge (HTTP/2 -> ASGI)
               -> control.register | control.poll -> state -> store -> the same tail
    operator   api | web | cli -> identity -> state -> store -> the same tail

And one that changes nothing: two commits and an inventory -> policy -> plan -> a pull request.

Start reading at ``domain/snapshot.py`` (what the server knows), ``state/engine.py`` (how it
changes) and ``netmap/`` (what each client is told about it).
"""

__version__ = "0.1.0"
