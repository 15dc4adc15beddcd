"""Notifications: people and programs are told when something about following changes.

    status of a look -> topics.py (which state is each topic in?) -> teller.py -> outbox
    outbox -> channels.py -> webhook.py | slack.py | mail.py

What must hold:

* Told is a change of state, never a look: a topic (what is in force, whether the branch can be
  followed, the remote, ...) is a key of the outbox, and the same state again is no news, whichever
  replica says it and however often the server restarted in between.
* The state in which nothing is wrong is told only after another one was.
* Nothing here holds up a look. Channels wait, retry and give up by themselves.
* Requests go to configured places only, over TLS unless that is this machine, and follow nobody
  elsewhere. Secrets are in the vault, bound to where they are sent; errors hold neither them nor
  what was answered.
"""
