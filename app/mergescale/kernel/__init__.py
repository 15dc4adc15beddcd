"""Words everyone shares: keys, ids, clock and entropy, the root error.

Imports nothing of ours and does no I/O. Everything here is a value or a small protocol; whatever
reads a clock or draws randomness takes it as an argument (``Clock``, ``Entropy``).
"""
