"""Forges: what their APIs are asked, and what they are told of commits and open pull requests.

``port.py`` says what is wanted of a forge, ``github.py``, ``gitlab.py`` and ``gitea.py`` (Forgejo's is
the same) how each of them is asked for it, ``calls.py`` what all calls have in common. ``reporter.py``
tells of the branch's commits, ``proposals.py`` of pull requests.

What must hold:

* Addresses come from the configuration (``place.py``), never from an answer: next pages are counted,
  redirects are not followed. So a token goes to no other host than it was given for.
* What a forge answers is never repeated in an error, and only so much of it is read.
* Every call may be made again: a status that is there is no error, and the comment is found by its
  hidden marker before it is written.
"""
