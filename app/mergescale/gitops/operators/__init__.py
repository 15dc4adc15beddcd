"""What operators do about a followed repository, at any replica and through the journal.

Look back and go back, hold still, pin, override for a while, let one commit pass.
"""
