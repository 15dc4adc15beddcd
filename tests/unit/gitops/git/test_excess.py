"""What is said when git prints more than it was granted."""

from __future__ import annotations

import pytest

from mergescale.gitops.git.excess import talked
from mergescale.gitops.git.limits import Limits


@pytest.mark.parametrize(
    ("most", "said"),
    [
        (1000, "the remote said more than was asked for; limits.refs_bytes is 1000"),
        (64 << 20, "the new commits and their messages have more than 67108864 bytes"),
    ],
)
def test_who_printed_too_much_is_named(most: int, said: str) -> None:
    """A list of refs has a limit of its own; long messages are nobody's list."""
    failed = talked(most, Limits(refs_bytes=1000))
    assert (failed.reason, failed.message, failed.retry) == ("TooLarge", said, False)
