"""Everything that speaks to git, and the child process that it runs in.

``child.py`` starts the worker and asks it once; ``worker.py`` answers there. ``bare.py`` holds every git
call that is made, ``hardening.py`` what goes with each of them, ``running.py`` makes it, ``printed.py``
reads what it says: only `bare` and `running` touch GitPython. Nothing here knows what a policy is.
"""
