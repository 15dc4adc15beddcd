"""users.hujson."""

from __future__ import annotations

import pytest

from mergescale.domain.declaration import DeclaredUser
from mergescale.domain.user import Role
from support.declared import good, said


def test_people_have_the_role_and_name_that_is_said_or_the_default() -> None:
    """A login alone makes an active member whose name is the login."""
    text = """{"users": [
        {"login": "ana@example.com", "role": "network-admin", "displayName": "Ana"},
        {"login": "bo@example.com", "suspended": true, "groups": []},
    ]}"""
    assert good({"users.hujson": text}).users == (
        DeclaredUser("ana@example.com", "Ana", Role.NETWORK_ADMIN, suspended=False),
        DeclaredUser("bo@example.com", "bo@example.com", Role.MEMBER, suspended=True),
    )


def test_a_login_declared_twice_shows_both_places() -> None:
    """Logins are compared without case, as they are everywhere else."""
    text = '{"users": [\n {"login": "ana@x.org"},\n {"login": "Ana@X.org"},\n]}'
    assert said({"users.hujson": text}) == [
        (
            "users.hujson:3:12",
            '"Ana@X.org"',
            'login "Ana@X.org" is declared twice',
            "the first one is at line 2",
        )
    ]


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ('{"role": "admin"}', ("{", '"login" is missing here', "")),
        (
            '{"login": "ana"}',
            ('"ana"', '"ana" is not a login such as ana@example.com', ""),
        ),
        (
            '{"login": "a@b.c", "role": "amdin"}',
            (
                '"amdin"',
                '"amdin" is not one of owner, admin, it-admin, network-admin, billing-admin, auditor and member',
                'did you mean "admin"?',
            ),
        ),
        (
            '{"login": "a@b.c", "groups": ["ops"]}',
            ('"ops"', '"ops" is not a group such as group:ops', ""),
        ),
        (
            '{"login": "a@b.c", "groups": "group:ops"}',
            ('"group:ops"', 'expected a list, found "group:ops"', ""),
        ),
        (
            '{"login": "a@b.c", "suspend": true}',
            ('"suspend"', 'key "suspend" is not known', 'did you mean "suspended"?'),
        ),
        ("7", ("7", "expected an object, found 7", "")),
    ],
)
def test_what_is_wrong_with_a_person_is_underlined(
    user: str, expected: tuple[str, str, str]
) -> None:
    """One mistake, one diagnostic, at the key or the value that is wrong."""
    found = said({"users.hujson": f'{{"users": [{user}]}}'})
    assert [rest for _, *rest in found] == [list(expected)]


def test_a_file_without_the_list_is_refused() -> None:
    """An empty object would suspend everybody; the list has to be written."""
    assert said({"users.hujson": "{}"}) == [
        ("users.hujson:1:1", "{", '"users" is missing here', "")
    ]
