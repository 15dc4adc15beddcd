"""What the sections ``ssh`` and ``sshTests`` accept and refuse."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from mergescale.policy.diagnostics import Severity
from support.policies import diagnose, policy, underlined
from support.ssh import OPEN, entry, ssh_text

ANA = "ana@example.com"
GOOD = entry(ANA, "tag:web", "root")


def errors(text: str) -> list[tuple[str, str]]:
    """Return (message, what it points at) of each error."""
    _, found = diagnose(text)
    return [(one.message, underlined(text, one)) for one in found if one.severity is Severity.ERROR]


def messages(text: str) -> list[str]:
    return [message for message, _ in errors(text)]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"action": ""}, "action must be specified"),
        ({"action": "Accept"}, '"Accept" is not a valid action'),
        ({"users": []}, "users must be specified"),
        ({"users": None}, "users must be specified"),
        ({"users": ["*"]}, 'user "*" is not valid'),
        ({"users": ["root", " "]}, 'user "" is not valid'),
        ({"users": ['a"b']}, 'user "a"b" is not valid'),
        ({"users": ["localpart:*@example.org"]}, None),
        ({"src": ["user:*@EXAMPLE.COM"]}, None),
        ({"src": ["*"]}, 'invalid src "*"'),
        ({"src": ["100.64.0.1"]}, 'invalid src "100.64.0.1"'),
        ({"src": ["autogroup:self"]}, 'invalid src "autogroup:self"'),
        ({"dst": ["*"]}, 'invalid dst "*"'),
        ({"dst": ["srv"]}, 'invalid dst "srv"'),
        ({"dst": ["10.0.0.0/8"]}, 'invalid dst "10.0.0.0/8"'),
        ({"dst": ["group:eng"]}, 'invalid dst "group:eng"'),
        ({"dst": ["autogroup:internet"]}, 'invalid dst "autogroup:internet"'),
        ({"dst": ["autogroup:member"]}, 'invalid dst "autogroup:member"'),
        ({"dst": ["tag:wbe"]}, 'dst="tag:wbe": tag not found: "tag:wbe"'),
        ({"src": ["group:ops"]}, 'src="group:ops": group not found: "group:ops"'),
        ({"checkPeriod": "abc"}, 'time: invalid duration "abc"'),
        ({"checkPeriod": "200h"}, "checkPeriod 200h0m0s is above the max (168h)"),
        ({"checkPeriod": "30s"}, "checkPeriod 30s is below the min (1m)"),
        ({"checkPeriod": 3}, "checkPeriod must be a string, not a number"),
        ({"recorder": ["group:eng"]}, 'invalid recorder "group:eng"'),
        ({"recorder": ["tag:rce"]}, 'recorder="tag:rce": tag not found: "tag:rce"'),
        ({"enforceRecorder": True}, "enforceRecorder needs a recorder"),
        ({"enforceRecorder": "yes"}, "enforceRecorder must be a boolean, not a string"),
        ({"acceptEnv": ["A\\B"]}, 'acceptEnv "A\\B" is not valid'),
    ],
)
def test_an_entry_that_says_nothing_good_is_refused(
    more: dict[str, Any], message: str | None
) -> None:
    """Each with one error, in the hosted service's words where they are known."""
    found = messages(ssh_text({**GOOD, **more}))
    if message is None:
        assert len(found) == 1
        assert "is not associated with this Tailnet and cannot be used in" in found[0]
        assert ("[ssh] " in found[0]) == ("src" in more)
    else:
        assert found == [message]


def test_errors_point_at_what_they_name() -> None:
    """The span is the element, or the entry where the element is not there."""
    text = ssh_text({"action": "accept", "src": [ANA, "*"], "dst": ["tag:web", "srv"]})
    entry_text = text[text.index('{"action": "accept", "src": ["ana') : text.rindex("]")]
    assert errors(text) == [
        ("users must be specified", entry_text),
        ('invalid src "*"', '"*"'),
        ('invalid dst "srv"', '"srv"'),
    ]


@pytest.mark.parametrize(
    ("src", "dst", "wrong"),
    [
        ("tag:db", "autogroup:self", 1),
        ("autogroup:tagged", "autogroup:self", 1),
        (f"{ANA} tag:db", "autogroup:self", 1),
        ("ben@example.com", ANA, 1),
        (f"{ANA} ben@example.com", ANA, 1),
        ("group:eng", ANA, 1),
        ("tag:db", ANA, 1),
        (ANA, ANA, 0),
        ("group:eng", "autogroup:self", 0),
        ("autogroup:member", "autogroup:self tag:db", 0),
        ("tag:db", "autogroup:tagged tag:web", 0),
    ],
)
def test_nobody_is_let_into_devices_of_another_person(src: str, dst: str, wrong: int) -> None:
    """People reach their own devices and tagged ones, tagged devices reach tagged ones."""
    assert len(errors(ssh_text(entry(src, dst, "root")))) == wrong


def test_white_space_around_words_does_not_count() -> None:
    """Action, selectors and users are read without it."""
    padded = {
        "action": " accept",
        "src": [f" {ANA}"],
        "dst": ["tag:web "],
        "users": ["\troot", " autogroup:nonroot "],
    }
    wide, plain = (
        policy(ssh_text(one)).document.ssh
        for one in (padded, entry(ANA, "tag:web", "root autogroup:nonroot"))
    )
    assert wide == plain


@pytest.mark.parametrize(
    ("written", "period"),
    [
        ({}, timedelta(hours=12)),
        ({"checkPeriod": None}, timedelta(hours=12)),
        ({"checkPeriod": "always"}, timedelta(0)),
        ({"checkPeriod": "1m"}, timedelta(minutes=1)),
        ({"checkPeriod": "168h"}, timedelta(days=7)),
        ({"checkPeriod": "1h30m"}, timedelta(minutes=90)),
    ],
)
def test_a_check_lasts_as_long_as_is_written(written: dict[str, Any], period: timedelta) -> None:
    """Twelve hours where nothing is said; accepting has no period."""
    checked = policy(ssh_text({**GOOD, "action": "check", **written})).document.ssh
    accepted = policy(ssh_text({**GOOD, **written})).document.ssh
    assert [one.check_period for one in (*checked, *accepted)] == [period, None]


@pytest.mark.parametrize("missing", ["src", "dst"])
@pytest.mark.parametrize("value", [[], None])
def test_an_entry_without_one_side_is_legal_and_said_to_do_nothing(
    missing: str, value: object
) -> None:
    """It grants nothing, and a warning says so."""
    compiled, found = diagnose(ssh_text({**GOOD, missing: value}))
    assert compiled is not None
    assert compiled.ssh == ()
    assert [(one.code, one.message) for one in found] == [
        ("policy.ssh-unreachable", f"this ssh rule has no {missing}, so it admits nobody")
    ]


@pytest.mark.parametrize("section", ["ssh", "sshTests"])
def test_an_empty_section_says_nothing(section: str) -> None:
    """No entry, no rule, no diagnostic."""
    compiled, found = diagnose(json.dumps({**OPEN, section: []}))
    assert compiled is not None
    assert (compiled.ssh, found) == ((), ())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"dst": ["autogroup:internet"]},
            'SSH tests dst contains disallowed element "autogroup:internet"',
        ),
        (
            {"dst": ["autogroup:member"]},
            'SSH tests dst contains disallowed element "autogroup:member"',
        ),
        ({"dst": ["*"]}, 'SSH tests dst contains disallowed element "*"'),
        ({"dst": ["10.0.0.0/24"]}, 'SSH tests dst contains disallowed element "10.0.0.0/24"'),
        ({"dst": ["tag:web:22"]}, 'SSH tests dst contains unknown tag "tag:web:22"'),
        ({"dst": ["group:ops"]}, 'SSH tests dst contains unknown group "group:ops"'),
        ({"dst": ["srv"]}, 'SSH tests dst contains unknown host "srv"'),
        ({"src": "tag:wbe"}, 'SSH tests src contains unknown tag "tag:wbe"'),
        ({"src": "*"}, 'SSH tests src contains disallowed element "*"'),
        ({"src": ""}, "test(s) failed: the test has no src"),
        ({"accept": ["*"]}, 'user "*" is not valid'),
        ({"accept": None}, "test(s) failed: the test has neither accept, check nor deny"),
    ],
)
def test_a_test_that_asks_nothing_good_is_refused(more: dict[str, Any], message: str) -> None:
    """Each with one error, in the hosted service's words where they are known."""
    test = {"src": ANA, "dst": ["tag:web"], "accept": ["root"], **more}
    assert messages(ssh_text(GOOD, sshTests=[test])) == [message]
