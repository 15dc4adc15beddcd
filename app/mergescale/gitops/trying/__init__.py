"""A commit is tried in a bounded child process before the server itself compiles it.

What the compiler does not survive is written down first, and stays in quarantine across restarts.
"""
