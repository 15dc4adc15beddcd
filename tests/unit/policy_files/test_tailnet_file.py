"""tailnet.hujson."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mergescale.domain.tailnet import Settings
from support.declared import good, said


def test_every_key_becomes_its_setting() -> None:
    """All keys at once, with a duration of several units."""
    text = """{
        "domain": "example.com",
        "magicDNSSuffix": "Corp.Example.com.",
        "keyExpiry": "1d12h",
        "deviceApproval": true,
        "ephemeralTimeout": "90s",
        "randomizeClientPort": true,
    }"""
    assert good({"tailnet.hujson": text}).settings == Settings(
        domain="example.com",
        magic_dns_suffix="corp.example.com",
        key_expiry=timedelta(hours=36),
        device_approval=True,
        ephemeral_timeout=timedelta(seconds=90),
        randomize_client_port=True,
    )


def test_keys_may_never_expire() -> None:
    """The word is `never`, so that nobody writes it by accident."""
    assert good({"tailnet.hujson": '{"keyExpiry": "never"}'}).settings == Settings(key_expiry=None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '{"keyExpiry": "180"}',
            (
                '"180"',
                '"180" is not a duration such as "180d", "12h" or "1h30m", or "never"',
                "",
            ),
        ),
        ('{"keyExpiry": ""}', ('""', "the text must not be empty", "")),
        ('{"keyExpiry": 180}', ("180", "expected a string, found 180", "")),
        ('{"keyExpiry": "9999d"}', ('"9999d"', "this is longer than 3650 days", "")),
        (
            '{"ephemeralTimeout": "1h\\n"}',
            (
                '"1h\\n"',
                '"1h\N{REPLACEMENT CHARACTER}" is not a duration such as "180d", "12h" or "1h30m"',
                "",
            ),
        ),
        ('{"ephemeralTimeout": "31d"}', ('"31d"', "this is longer than 30 days", "")),
        ('{"magicDNSSuffix": "a..b"}', ('"a..b"', '"a..b" is not a domain name', "")),
        (
            '{"deviceAproval": true}',
            (
                '"deviceAproval"',
                'key "deviceAproval" is not known',
                'did you mean "deviceApproval"?',
            ),
        ),
        ('{"deviceApproval": "yes"}', ('"yes"', 'expected a boolean, found "yes"', "")),
        ("[]", ("[", "expected an object, found a list", "")),
    ],
)
def test_what_is_wrong_is_underlined(text: str, expected: tuple[str, str, str]) -> None:
    """One mistake, one diagnostic, at the key or the value that is wrong."""
    assert [rest for _, *rest in said({"tailnet.hujson": text})] == [list(expected)]
