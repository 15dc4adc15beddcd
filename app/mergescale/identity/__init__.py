"""Who is asking: secrets that prove it, and what follows from the proof.

* ``secrets.py`` mints and reads keys and tokens, and draws the unguessable ids.
* ``accesstokens.py`` are what OAuth clients get for their secret.
* ``principals.py`` turns a request's credentials into a `Principal`.
* ``masterkey.py`` is the key that the server's own secrets are sealed under.
* ``fingerprint.py`` shortens a machine key to something a person can compare.

What must hold:

* A secret is in memory while it is minted or checked and nowhere else: stored is its hash, or, of
  what has to be read again, its sealed form. No error, log or repr shows it.
* Secrets are compared in constant time.
* Whoever proves nothing learns nothing: every failure is the same `Unauthorized`.

It decides nothing about a tailnet's state; making and revoking keys is ``state``'s.
"""
