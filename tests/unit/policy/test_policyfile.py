from __future__ import annotations

from mergescale.policy import hujson
from mergescale.policy.policyfile import UNSET, digest, text_of, with_policy, with_tests
from mergescale.policy.repository import declare


def test_what_is_shown_before_a_policy_says_that_nobody_reaches_anybody() -> None:
    """It is a good policy, laid out, and is shown where there is none."""
    declaration, said = declare({"policy.hujson": UNSET})
    assert declaration is not None
    assert said == ()
    assert text_of(None) == hujson.format(UNSET) == UNSET


def test_one_file_is_shown_as_it_was_written() -> None:
    """What stands beside the policy is none of it."""
    text = '{"acls":   [] /* so */}'
    assert text_of({"policy.hujson": text, "dns.hujson": "{}", "policy.d/readme": "x"}) == text


def test_parts_are_shown_as_one() -> None:
    """Also where there is no first file; the order is that of the paths."""
    parts = {"policy.d/b.hujson": '{"acls": [2]}', "policy.d/a.hujson": '{"acls": [1],}'}
    assert text_of(parts) == '{"acls": [1, 2]}\n'
    assert text_of({**parts, "policy.hujson": '{"acls": [0]}'}) == '{"acls": [0, 1, 2]}\n'


def test_the_digest_is_that_of_the_layout() -> None:
    """Layout changes nothing; a comment does."""
    assert digest('{"acls":[]}') == digest('{"acls": [],}\n') != digest('{"acls": []} // x\n')
    # What gitops-pusher's own `checksum` says of this file.
    assert digest('{"acls":[]}') == (
        "99da70d87d436657826c1b97333561071acd862a637dbd3d6dca12dd0eb09ceb"
    )


def test_another_policy_takes_the_place_of_all_its_parts() -> None:
    """The rest stays as it is."""
    files = {"policy.hujson": "a", "policy.d/x.hujson": "b", "tags.hujson": "c"}
    assert with_policy(files, "new") == {"policy.hujson": "new", "tags.hujson": "c"}
    assert with_policy(None, "new") == {"policy.hujson": "new"}


def test_other_tests_take_the_place_of_all_tests() -> None:
    """In any spelling, those of logins too."""
    text = '{"Tests": [1], "sshTests": [2], "acls": [3]}'
    assert with_tests(text, [{"src": "é"}]) == '{"acls": [3], "tests": [{"src": "é"}]}\n'
