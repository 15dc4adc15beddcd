"""What is demanded of commits, and what is said of the answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergescale.gitops.status import ConditionName, Status, fresh
from mergescale.gitops.trust.demands import (
    Demands,
    Signatures,
    TrustUnreadable,
    Untrusted,
    Verdict,
    admits,
    demand,
    fingerprint,
    told,
)
from support.clock import START

ANA, BEA = "ana@example.com (SHA256:A)", "bea@example.com (SHA256:B)"


@pytest.mark.parametrize(
    ("pattern", "email", "expected"),
    [
        ("ana@example.com", "ana@example.com", True),
        ("Ana@Example.COM", "aNA@eXAMPLE.com", True),
        ("ana@example.com", "bea@example.com", False),
        ("*@example.com", "bea@example.com", True),
        ("*@example.com", "bea@sub.example.com", False),
        ("*@example.com", "bea@notexample.com", False),
        ("*@example.com", "bea@evil.net@example.com", False),
        ("*@example.com", "@example.com", False),
        ("*@example.com", "example.com", False),
        ("*@example.com", "", False),
        ("a*@example.com", "ana@example.com", False),
    ],
)
def test_an_email_is_listed_by_itself_or_by_its_domain(
    pattern: str, email: str, expected: object
) -> None:
    """Case does not matter; nothing else stands for anything."""
    assert admits((pattern,), email) is expected
    assert admits(("other@example.org", pattern), email) is expected


def condition(status: Status) -> tuple[bool | None, str, str]:
    one = status.conditions[ConditionName.VERIFIED]
    return one.state, one.reason, one.message


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (None, (None, "NotReached", "")),
        (Verdict(signatures=Signatures.OFF), (None, "Off", "")),
        (
            Verdict(signatures=Signatures.OFF, reason="CommitterNotAllowed", message="eve"),
            (False, "CommitterNotAllowed", "eve"),
        ),
        (Verdict(signatures=Signatures.HEAD, by=(ANA,)), (True, "Verified", f"signed by {ANA}")),
        (
            Verdict(signatures=Signatures.HEAD, by=(ANA,), first=True),
            (True, "Verified", f"signed by {ANA}"),
        ),
        (
            Verdict(signatures=Signatures.STRICT, by=(ANA,), first=True),
            (
                True,
                "Verified",
                f"signed by {ANA}; nothing was in force, so the commits before it were not asked",
            ),
        ),
        (
            Verdict(signatures=Signatures.STRICT, by=(ANA, BEA), commits=3),
            (True, "Verified", f"3 commits signed by {ANA}, {BEA}"),
        ),
        (
            Verdict(signatures=Signatures.STRICT, by=tuple("abcdefg"), commits=9),
            (True, "Verified", "9 commits signed by a, b, c, d, e and 2 more"),
        ),
    ],
)
def test_the_status_says_who_vouches_or_why_nobody_does(
    verdict: Verdict | None, expected: tuple[bool | None, str, str]
) -> None:
    """`Verified` is unknown while nothing is asked; names are there for programs too."""
    status = told(fresh("/srv/policy.git", "main", "", START), verdict, START)
    assert condition(status) == expected
    by = () if verdict is None else verdict.by
    assert status.as_json()["verifiedBy"] == list(by)


def test_who_signed_the_last_commit_did_not_sign_the_next() -> None:
    """Names go when nobody vouches any more."""
    status = fresh("/srv/policy.git", "main", "", START)
    status = told(status, Verdict(signatures=Signatures.HEAD, by=(ANA,)), START)
    refused = Verdict(signatures=Signatures.HEAD, reason="Unsigned", message="x")
    assert told(status, refused, START).verified_by == ()
    assert told(status, None, START).verified_by == ()


def test_what_is_refused_stalls_and_what_nobody_can_tell_is_tried_again() -> None:
    """A commit does not become signed by waiting; a file may come back."""
    demand(None)
    demand(Verdict(signatures=Signatures.HEAD, by=(ANA,)))
    with pytest.raises(Untrusted) as stalled:
        demand(Verdict(signatures=Signatures.HEAD, reason="Unsigned", message="m", help="h"))
    assert (stalled.value.reason, stalled.value.message, stalled.value.help) == (
        "Unsigned",
        "m",
        "h",
    )
    with pytest.raises(TrustUnreadable):
        demand(Verdict(signatures=Signatures.HEAD, reason="TrustUnreadable", message="m"))


def test_the_fingerprint_moves_with_the_demands_and_with_the_files(tmp_path: Path) -> None:
    """Also when a file goes away or comes back; never by itself."""
    path = tmp_path / "signers"
    demands = Demands(signatures=Signatures.HEAD, ssh_signers=str(path))
    seen = [fingerprint(demands)]
    path.write_text("a")
    seen.append(fingerprint(demands))
    path.write_text("b")
    seen.append(fingerprint(demands))
    seen.append(fingerprint(Demands(signatures=Signatures.STRICT, ssh_signers=str(path))))
    seen.append(fingerprint(Demands()))
    assert len(set(seen)) == 5
    path.unlink()
    assert fingerprint(demands) == seen[0]
