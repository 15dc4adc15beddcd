"""What the comment of a pull request says of its signatures."""

from __future__ import annotations

import pytest

from mergescale.gitops.forges.verdicts import Judged, Tried, judged
from mergescale.gitops.git.messages import Found
from mergescale.gitops.trust.demands import Signatures, Verdict
from mergescale.plan.gates import Limits
from mergescale.plan.redaction import Redaction
from support.clock import START
from support.policies import governed

GOOD = '{"acls": []}'
TAILNET = governed("ana@example.com: laptop", GOOD)
UNSIGNED = Verdict(
    signatures=Signatures.STRICT, reason="Unsigned", message="commit 0123456789ab is not signed"
)
STRANGE = Verdict(
    signatures=Signatures.OFF,
    reason="CommitterNotAllowed",
    message='the committer of commit 0123456789ab, "eve@example.com", is not on the list',
)
SIGNED = Verdict(
    signatures=Signatures.STRICT, by=("ana@example.com (SHA256:a|b)", "Bea (C0)"), commits=3
)


def told(
    verdict: Verdict | None, level: Redaction = Redaction.FULL, policy: str = GOOD
) -> tuple[Judged, list[str]]:
    """Return what is said, and the lines of the comment that are about signatures."""
    merged = Found("tree", "s", "a", 0, True, {"policy.hujson": policy}, [], verdict)
    said = judged(Tried(1, "a" * 40, "b" * 40, merged), TAILNET, START, level, Limits())
    lines = said.comment.splitlines()
    return said, [one for one in lines if "erified" in one or "signed" in one]


@pytest.mark.parametrize("policy", [GOOD, '{"acsl": []}'])
def test_a_commit_that_is_not_vouched_for_is_named_before_anything_else(policy: str) -> None:
    """Also of a policy that is none; no check fails, as how it is merged makes other commits."""
    said, lines = told(UNSIGNED, policy=policy)
    warning = (
        "> **Not verified**: `commit 0123456789ab is not signed`; merged with this commit in it,"
        " the branch does not come into force."
    )
    assert lines == [warning]
    assert said.comment.splitlines()[1] == warning
    assert [one.state for one in said.reports] == [
        one.state for one in told(None, policy=policy)[0].reports
    ]


def test_where_only_the_newest_commit_counts_the_comment_says_that() -> None:
    """A merge by somebody who is listed makes good what the head lacks; counts tell no names."""
    then = "; as the newest commit of the branch it does not come into force."
    assert told(STRANGE)[1] == [f"> **Not verified**: `{STRANGE.message}`{then}"]
    assert told(STRANGE, Redaction.COUNTS)[1] == [
        f"> **Not verified**: `CommitterNotAllowed`{then}"
    ]


def test_who_signed_stands_below_the_plan() -> None:
    """With their keys, or as a number; of what nobody had to sign nothing is said."""
    below = "<sub>`aaaaaaaaaaaa` merged into `bbbbbbbbbbbb`"
    assert told(SIGNED)[1] == [
        f"{below}; 3 commits signed by `ana@example.com (SHA256:a|b)`, `Bea (C0)`</sub>"
    ]
    assert told(SIGNED, Redaction.COUNTS)[1] == [f"{below}; 3 commits signed as asked for</sub>"]
    assert told(None)[1] == []
    assert told(Verdict(signatures=Signatures.OFF))[1] == []
