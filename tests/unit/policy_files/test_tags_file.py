"""tags.hujson; how tags join the policy is in test_declare.py."""

from __future__ import annotations

import pytest

from support.declared import said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", ("{", '"tags" is missing here', "")),
        ('{"tags": []}', ("[", "expected an object, found a list", "")),
        ('{"tags": {"web": {}}}', ('"web"', '"web" is not a tag such as tag:web', "")),
        (
            '{"tags": {"tag:web": {"owner": []}}}',
            ('"owner"', 'key "owner" is not known', 'did you mean "owners"?'),
        ),
        (
            '{"tags": {"tag:web": {"owners": ["group:nobody"]}}}',
            (
                '"group:nobody"',
                'group not found: "group:nobody"',
                "declare it in groups",
            ),
        ),
    ],
)
def test_what_is_wrong_is_underlined(text: str, expected: tuple[str, str, str]) -> None:
    """Owners are checked as those of the policy, at their place in tags.hujson."""
    found = said({"tags.hujson": text})
    assert [place.partition(":")[0] for place, *_ in found] == ["tags.hujson"]
    assert [rest for _, *rest in found] == [list(expected)]
