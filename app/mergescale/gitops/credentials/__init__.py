"""What opens a private repository: tokens, GitHub Apps, deploy keys.

Goes in and never comes out: sealed in the vault, for one address, lent to git by ``keeper.py``.
"""
