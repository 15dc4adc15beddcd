"""Which deliveries are proved, and which were here before."""

from __future__ import annotations

import pytest

from mergescale.gitops.hooks import (
    MAX_HEADER_CHARS,
    REMEMBERED,
    REPLAY_S,
    Delivery,
    Seen,
    prove,
)
from support.deliveries import (
    FORGES,
    OTHER,
    PUSH,
    SECRET,
    forgejo,
    gitea,
    github,
    gitlab_signed,
    gitlab_token,
    low,
)

NOW_S = 1_767_225_600
EVERY = pytest.mark.parametrize("forge", FORGES)


@EVERY
def test_a_signed_delivery_is_proved(forge: str) -> None:
    """By any of the secrets that are good, whichever place it has among them."""
    headers = low(FORGES[forge](SECRET, PUSH, "7", NOW_S))
    for secrets in ([SECRET], [OTHER, SECRET], [SECRET, OTHER]):
        found = prove(headers, PUSH, secrets, NOW_S)
        assert found is not None
        assert not found.ping


@EVERY
def test_another_secret_or_none_proves_nothing(forge: str) -> None:
    """A tailnet whose webhook has no secret takes no delivery, not even an unsigned one."""
    headers = low(FORGES[forge](SECRET, PUSH, "7", NOW_S))
    assert prove(headers, PUSH, [OTHER], NOW_S) is None
    assert prove(headers, PUSH, [], NOW_S) is None
    assert prove({}, PUSH, [SECRET], NOW_S) is None


@pytest.mark.parametrize("forge", [one for one in FORGES if one != "gitlab-token"])
def test_another_body_is_refused(forge: str) -> None:
    """One byte more and the signature is that of something else."""
    headers = low(FORGES[forge](SECRET, PUSH, "7", NOW_S))
    assert prove(headers, PUSH + b" ", [SECRET], NOW_S) is None


def test_the_signature_that_counts_is_the_strongest_there_is() -> None:
    """Where Forgejo's header is there only it counts, and so on down; a weaker one saves nothing."""
    good = low(forgejo(SECRET, PUSH, "7"))
    assert prove({**good, "x-gitea-signature": "0"}, PUSH, [SECRET], NOW_S) is not None
    assert prove({**good, "x-forgejo-signature": "0"}, PUSH, [SECRET], NOW_S) is None
    assert prove({**good, "x-forgejo-signature": ""}, PUSH, [SECRET], NOW_S) is None
    good = low(gitea(SECRET, PUSH, "7"))
    assert prove({**good, "x-gitea-signature": "0"}, PUSH, [SECRET], NOW_S) is None
    token = low(gitlab_token(SECRET, PUSH, "7"))
    signed = low(gitlab_signed(SECRET, PUSH, "7", NOW_S))
    assert prove({**signed, "x-gitlab-token": "0"}, PUSH, [SECRET], NOW_S) is not None
    assert prove({**token, "webhook-signature": "v1,0"}, PUSH, [SECRET], NOW_S) is None


def test_a_signed_time_may_differ_by_five_minutes() -> None:
    """Either way; and the time and the id are part of what is signed."""
    headers = low(gitlab_signed(SECRET, PUSH, "7", NOW_S))
    for off_s, good in ((REPLAY_S, True), (-REPLAY_S, True), (REPLAY_S + 1, False), (-301, False)):
        assert (prove(headers, PUSH, [SECRET], NOW_S + off_s) is not None) is good
    for name, value in (
        ("webhook-id", "8"),
        ("webhook-id", ""),
        ("webhook-timestamp", str(NOW_S + 1)),
        ("webhook-timestamp", f"{NOW_S}.0"),
        ("webhook-timestamp", "\u0661\u0662"),
        ("webhook-timestamp", "9" * 5000),
    ):
        assert prove({**headers, name: value}, PUSH, [SECRET], NOW_S) is None, name


def test_one_of_several_signatures_is_enough() -> None:
    """A sender that exchanges its own secret signs with both."""
    headers = low(gitlab_signed(SECRET, PUSH, "7", NOW_S))
    both = f"v1a,AAAA v1,AAAA {headers['webhook-signature']}"
    assert prove({**headers, "webhook-signature": both}, PUSH, [SECRET], NOW_S) is not None


def test_a_secret_that_is_not_base64_is_good_for_what_does_not_need_it() -> None:
    """One that was stored by hand must not break the forges that use its text."""
    odd = "whsec_no base64"
    assert prove(low(github(odd, PUSH, "7")), PUSH, [odd], NOW_S) is not None
    assert prove(low(gitlab_signed(SECRET, PUSH, "7", NOW_S)), PUSH, [odd], NOW_S) is None


def test_headers_of_any_length_and_letters_are_refused_quietly() -> None:
    """Nothing that a stranger puts there is an error of ours."""
    for value in ("\u00e9", "\udcff", "sha256=", "v1", "x" * (MAX_HEADER_CHARS + 1)):
        for name in ("x-hub-signature-256", "x-gitlab-token", "x-forgejo-signature", "x-signature"):
            assert prove({name: value}, PUSH, [SECRET], NOW_S) is None
        headers = {"webhook-signature": value, "webhook-id": "\udcff", "webhook-timestamp": "1"}
        assert prove(headers, PUSH, [SECRET], NOW_S) is None
    long = {**low(github(SECRET, PUSH, "7")), "x-github-delivery": "x" * (MAX_HEADER_CHARS + 1)}
    assert prove(long, PUSH, [SECRET], NOW_S) is None


def test_only_github_says_ping() -> None:
    """It is asked whether somebody is there; nothing has moved."""
    found = prove(low(github(SECRET, PUSH, "7", event="ping")), PUSH, [SECRET], NOW_S)
    assert found is not None
    assert found.ping


@EVERY
def test_a_repetition_is_seen(forge: str) -> None:
    """Also with another id beside a signature that does not cover it; another push is none."""
    seen, body, sign = Seen(), PUSH + b"\n", FORGES[forge]

    def came(number: str, what: bytes, at_s: float = 0.0) -> bool:
        found = prove(low(sign(SECRET, what, number, NOW_S)), what, [SECRET], NOW_S)
        assert found is not None
        return seen.repeats(found, at_s)

    assert [came("7", PUSH), came("7", PUSH), came("8", body), came("8", body)] == [
        False,
        True,
        False,
        True,
    ]
    # GitLab's token signs nothing: only its id tells deliveries apart.
    covered = forge in ("gitlab-token", "gitlab-signed")
    assert came("9", PUSH) is not covered
    assert came("7", PUSH, REPLAY_S - 1) is True
    assert came("7", PUSH, REPLAY_S) is False


def test_what_is_remembered_is_bounded() -> None:
    """The oldest is forgotten first."""
    seen = Seen()
    for number in range(3 * REMEMBERED):
        assert not seen.repeats(Delivery((f"{number}",), ping=False), 0.0)
    assert len(seen) == REMEMBERED
    assert seen.repeats(Delivery((f"{3 * REMEMBERED - 1}",), ping=False), 1.0)
    assert not seen.repeats(Delivery(("0",), ping=False), 1.0)
