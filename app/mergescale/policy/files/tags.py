"""``tags.hujson``: tags, who may give them to a device, and what they are for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from mergescale.policy.files import forms
from mergescale.policy.hujson import Member, Value

SCHEMA: Final[dict[str, Any]] = forms.document(
    "tags.hujson",
    "Tags of the tailnet; the same as tagOwners of the policy, with a description each.",
    {
        "tags": {
            "type": "object",
            "description": "One entry for each tag, e.g. tag:web.",
            "patternProperties": {
                forms.TAG: {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "owners": {
                            "type": "array",
                            "items": {"type": "string", "minLength": 1},
                            "default": [],
                            "description": "Logins, groups, autogroups and tags that may give the tag"
                            " to a device. Empty: operators only.",
                        },
                        "description": {
                            "type": "string",
                            "maxLength": 500,
                            "description": "What devices with this tag are for.",
                        },
                    },
                },
            },
            "additionalProperties": False,
            "patternErrorMessage": "a tag such as tag:web",
        },
    },
    required=["tags"],
)


def owners(value: Value) -> Iterator[tuple[Member, Value | None]]:
    """Yield each tag with its list of owners, None for operators only."""
    listed = value.get("tags")
    for member in listed.members if listed is not None else ():
        yield member, member.value.get("owners")
