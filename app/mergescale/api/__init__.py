"""REST: Tailscale's v2 shapes for what operators do, and what a load balancer asks.

Thin on purpose: a handler parses, asks for one decision, renders. One module per noun, named as in
``state``; the paths and members are Tailscale's, so that its Go client, Terraform and scripts work.
Where Mergescale has more to say (the owner of a key, pending logins, the repository) it adds
members and paths in the same style; each docstring says so.

What must hold:

* A caller is let into one tailnet and sees no other: `callers.authenticate` runs before a body is
  read, picks the engine, and handlers have no other way to one.
* Answers come from structs made for the wire, never from nouns of the domain.
* Reads take the snapshot; nothing here knows SQL.
* Every error leaves through ``problems.answer``.

Not here: sessions and pages (``web``), rate limits, roles.
"""
