"""What other files add to a policy, and who is known."""

from __future__ import annotations

from mergescale.policy.check import check
from mergescale.policy.diagnostics import Severity, Source
from mergescale.policy.document import PolicyDocument
from mergescale.policy.hujson import Value, parse
from mergescale.policy.scope import ExtraGroup, ExtraTag, KnownUsers

RULES = """
{"groups": {"group:ops": ["ana@example.com"]}, "tagOwners": {"tag:db": []},
 "acls": [{"action": "accept", "src": ["group:ops", "group:dev", "ben@example.com"], "dst": ["tag:web:80"]}]}
"""
PLACE = Source("x", "other.hujson").span(0, 1)


def value(text: str) -> Value:
    read, found = parse(text, "policy.hujson")
    assert read is not None
    assert found == ()
    return read


def extra(*, tag: str = "tag:web") -> tuple[list[ExtraGroup], list[ExtraTag]]:
    owners = value('["group:ops", "autogroup:member"]').items
    groups = [
        ExtraGroup("group:dev", ("Ben@example.com",), PLACE),
        ExtraGroup("group:ops", ("eve@example.com", "ana@example.com"), PLACE),
    ]
    return groups, [ExtraTag(tag, owners, PLACE)]


def checked(
    known_users: KnownUsers | None = None,
) -> tuple[PolicyDocument | None, list[tuple[str, Severity]]]:
    groups, tags = extra()
    document, found = check(
        value(RULES), extra_groups=groups, extra_tags=tags, known_users=known_users
    )
    return document, [(one.message, one.severity) for one in found]


def test_groups_and_tags_of_other_files_join_in() -> None:
    """Members add up; tags of either file may be named."""
    document, found = checked()

    assert found == []
    assert document is not None
    assert document.groups == {
        "group:ops": ("ana@example.com", "eve@example.com"),
        "group:dev": ("ben@example.com",),
    }
    owners = {tag: [str(one) for one in ones] for tag, ones in document.tag_owners.items()}
    assert owners == {"tag:db": [], "tag:web": ["group:ops", "autogroup:member"]}


def test_without_them_the_names_are_missing() -> None:
    """A group and a tag that nobody declares are errors."""
    document, found = check(value(RULES))

    assert document is None
    assert [one.message for one in found] == [
        'src="group:dev": group not found: "group:dev"',
        'dst="tag:web": tag not found: "tag:web"',
    ]


def test_a_tag_declared_in_both_files_is_told_with_both_places() -> None:
    """The same name twice is an error at one place that names the other."""
    _, tags = extra(tag="tag:db")

    document, found = check(value('{"tagOwners": {"tag:db": []}, "acls": []}'), extra_tags=tags)

    assert document is None
    assert [one.message for one in found] == ['tag "tag:db" is declared twice']
    assert [one.span for one in found] == [PLACE]
    assert found[0].help == "the other one is at policy.hujson:1:16"


def test_an_unknown_login_is_a_warning_while_people_come_and_go() -> None:
    """The policy stands; the person may appear later."""
    document, found = checked(known_users=KnownUsers(["ANA@example.com"], managed=False))

    assert document is not None
    assert found == [('user "ben@example.com" is not known yet', Severity.WARNING)]


def test_an_unknown_login_is_an_error_when_git_manages_people() -> None:
    """With users.hujson everybody is known, so it is a slip."""
    document, found = checked(known_users=KnownUsers(["ana@example.com"], managed=True))

    assert document is None
    assert found == [('user "ben@example.com" is not known', Severity.ERROR)]
