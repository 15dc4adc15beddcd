"""The watched repository: fetch, read, check, test, compile, apply.

What must hold:

* Git runs only in a short-lived child process (``git/worker.py``) with a scrubbed environment and
  resource limits, on bare objects; nothing is ever checked out. ``git/bare.py`` holds every call
  that is made, ``git/running.py`` makes it; only these two touch GitPython.
* URLs and refs come from configuration, pass our own grammar (``git/source.py``) and are never an
  option, a format or a shell word.
* A commit is attempted once. A bad one changes nothing and stays visible in the `Status` until the
  branch moves; the last good one is in the store and outlives restarts and the remote.
* The branch is followed forward only: rewritten history is refused and reported.
* Every error says what to do next: `Stalled`, `Waiting` or `Transient` (``errors.py``).
* What opens a repository goes in and never comes out (``credentials/keeper.py``): sealed in the
  vault (``vault.py``), for one address, lent to git over stdin and the environment
  (``git/access.py``), never by an argument.
* Nothing that a webhook carries is believed but that something moved (``hooks.py``, ``webhooks.py``).
* What the outside is told goes through the database first (``outbox.py``), never holds up a look, and
  a check that looked at nothing is no success there (``forges/reports.py``).
* Pull requests are those that the forge's API lists (``forges/``); each is merged for trial in a
  quarantine (``git/trial.py``) and judged by the stages of the branch (``forges/verdicts.py``).

Where to read: ``watch.py`` says when to look, ``reconcile.py`` what to do, ``stages.py`` and ``gates.py``
(with ``freeze.py``) what a commit passes, ``status.py`` what to tell, with ``standing.py`` and ``delivery.py``
for what is told of the tailnet and its devices; ``sharing.py`` tells it at other replicas. ``direct.py`` takes
policies of the API the same way, ``planning.py`` only plans them. To others: ``outbox.py``, then ``outside.py``
(HTTP; ``waits.py``). Beside them:

    git/          the child process that git runs in, and what is asked of it
    trust/        signatures and committers       credentials/  what opens a private repository
    trying/       the compiler in a bounded child operators/    roll back, pin, override, approve
    forges/       statuses and pull requests      notices/      mail, chat, webhooks to the outside
"""
