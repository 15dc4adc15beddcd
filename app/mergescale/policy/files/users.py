"""``users.hujson``: the people of the tailnet and the groups they are in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from mergescale.domain.declaration import DeclaredUser
from mergescale.domain.user import TAGGED_LOGIN, Role
from mergescale.policy.diagnostics import Report, quoted
from mergescale.policy.files import forms
from mergescale.policy.hujson import Value

_LONGEST_LOGIN: Final = 254

SCHEMA: Final[dict[str, Any]] = forms.document(
    "users.hujson",
    "People of the tailnet. With this file people are managed by git: who is not here cannot log in.",
    {
        "users": {
            "type": "array",
            "description": "One entry for each person.",
            "items": {
                "type": "object",
                "required": ["login"],
                "additionalProperties": False,
                "properties": {
                    "login": {
                        "type": "string",
                        "pattern": forms.LOGIN,
                        "maxLength": _LONGEST_LOGIN,
                        "patternErrorMessage": "a login such as ana@example.com",
                        "description": "Unique, compared without case, e.g. ana@example.com.",
                    },
                    "role": {
                        "type": "string",
                        "enum": [str(role) for role in Role],
                        "default": str(Role.MEMBER),
                        "description": "What the person may do in the API and the admin pages.",
                    },
                    "displayName": {
                        "type": "string",
                        "maxLength": 200,
                        "description": "Name that clients display. Default: the login.",
                    },
                    "groups": {
                        "type": "array",
                        "uniqueItems": True,
                        "items": {
                            "type": "string",
                            "pattern": forms.GROUP,
                            "patternErrorMessage": "a group such as group:ops",
                        },
                        "description": "Groups of the policy that the person is in; joined with the policy's own groups.",
                    },
                    "suspended": {
                        "type": "boolean",
                        "default": False,
                        "description": "The person's devices stay known but reach nobody.",
                    },
                },
            },
        },
    },
    required=["users"],
)


def read(value: Value, report: Report) -> tuple[DeclaredUser, ...]:
    """Return the people; the same login twice is an error that shows both places."""
    users: list[DeclaredUser] = []
    seen: dict[str, Value] = {}
    for person, login in _people(value):
        name = str(login.scalar)
        first = seen.setdefault(name.casefold(), login)
        if first is not login:
            line = first.span.start_line
            message = f"login {quoted(name)} is declared twice"
            report.error("users.twice", login.span, message, f"the first one is at line {line}")
            continue
        if name.casefold() == TAGGED_LOGIN:
            report.error("users.login", login.span, f"login {quoted(name)} is reserved")
        role = forms.string(person.get("role"))
        users.append(
            DeclaredUser(
                login=name,
                display_name=forms.string(person.get("displayName")) or name,
                role=Role(role) if role in set(Role) else Role.MEMBER,
                suspended=forms.boolean(person.get("suspended"), default=False),
            )
        )
    return tuple(users)


def memberships(value: Value) -> Iterator[tuple[Value, Value]]:
    """Yield (group, login), both with their places."""
    for person, login in _people(value):
        for _, group in forms.strings(person.get("groups")):
            yield group, login


def _people(value: Value) -> Iterator[tuple[Value, Value]]:
    """Yield (person, login) of everybody who has one."""
    listed = value.get("users")
    for person in listed.items if listed is not None else ():
        login = person.get("login")
        if login is not None and forms.string(login):
            yield person, login
