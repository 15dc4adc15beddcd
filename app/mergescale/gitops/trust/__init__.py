"""Whose commits come into force: signatures, committers, authors.

What is trusted is named by the server's configuration only (``demands.py``); ``signatures.py`` asks
git about it in the worker.
"""
