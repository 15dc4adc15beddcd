"""What is made of texts of others is made in a bounded child process: trials of commits, and plans.

A commit is tried there before the server itself compiles it. What the compiler does not survive is
written down first, and stays in quarantine across restarts. Plans are made nowhere else; of what
is too much work there is none.
"""
