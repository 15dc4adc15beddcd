"""Everything that speaks to git, and the child process that it runs in.

``child.py`` starts the worker and asks it once; ``worker.py`` answers there, with ``bare.py`` as the
only module that touches GitPython. Nothing here knows what a policy is.
"""
