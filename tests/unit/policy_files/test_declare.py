"""A whole repository: which files there are, what joins the policy, all problems at once."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mergescale
from mergescale.domain.declaration import Declaration
from mergescale.domain.tailnet import Dns, Relays, Settings
from mergescale.policy.compiled import CompiledPolicy
from mergescale.policy.repository import FILES, declare, selftest
from support.declared import good, said


def _compiled(declaration: Declaration) -> CompiledPolicy:
    assert isinstance(declaration.policy, CompiledPolicy)
    return declaration.policy


def test_a_policy_alone_is_enough_and_everything_else_has_its_default() -> None:
    """Only policy.hujson is required; without users.hujson people are not managed by git."""
    found = good({})
    assert replace(found, policy=_compiled(found)) == Declaration(
        _compiled(found), Settings(), Dns(), Relays(), None
    )


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {},
            ("policy.hujson:1:1", "there is no policy.hujson"),
        ),
        (
            {"policy.hujson": ""},
            ("policy.hujson:1:1", "the file is empty"),
        ),
        (
            {"policy.hujson": "// nothing left\n"},
            ("policy.hujson:1:1", "the file is empty"),
        ),
        (
            {"policy.hujson": "{}"},
            ("policy.hujson:1:1", "the policy has neither acls nor grants"),
        ),
        (
            {"Policy.hujson": '{"acls": []}'},
            ("Policy.hujson:1:1", 'file "Policy.hujson" is not known'),
        ),
    ],
)
def test_no_policy_is_never_a_policy(files: dict[str, str], expected: tuple[str, str]) -> None:
    """Absent and empty policies are errors with a place, and nothing is declared."""
    declaration, diagnostics = declare(files)
    places = [
        (f"{d.span.file}:{d.span.start_line}:{d.span.start_column}", d.message) for d in diagnostics
    ]
    assert declaration is None
    assert places[0] == expected


def test_an_unknown_file_is_an_error_that_suggests_a_name() -> None:
    """A misspelt file would silently change nothing; files of other kinds are left alone."""
    assert said({"user.hujson": "{}", "README.md": "hello", "drafts/users.hujson": "{"}) == [
        ("user.hujson:1:1", "", 'file "user.hujson" is not known', 'did you mean "users.hujson"?')
    ]


def test_every_problem_of_every_file_is_told_at_once() -> None:
    """One bad file does not hide what is wrong with the others."""
    found = said(
        {
            "policy.hujson": '{"acls": [{"action": "accept", "src": ["*"]}]}',
            "users.hujson": '{"users": [{"login": "a@b.c", "rol": "admin"}]}',
            "tags.hujson": '{"tags": ',
            "derp.hujson": '{"Regions": 3}',
            "dns.hujson": '{"magicDns": true}',
            "tailnet.hujson": '{"keyExpiry": "soon"}',
        }
    )
    assert [(place, text) for place, text, _, _ in found] == [
        ("derp.hujson:1:13", "3"),
        ("dns.hujson:1:2", '"magicDns"'),
        ("policy.hujson:1:11", '{"action": "accept", "src": ["*"]}'),
        ("tags.hujson:1:10", ""),
        ("tailnet.hujson:1:15", '"soon"'),
        ("users.hujson:1:31", '"rol"'),
    ]


def test_groups_of_people_join_the_groups_of_the_policy() -> None:
    """A group may stand in either file or in both; its members are those of both."""
    found = good(
        {
            "policy.hujson": '{"acls": [], "groups": {"group:ops": ["bo@x.org"]}}',
            "users.hujson": """{"users": [
                {"login": "Ana@x.org", "groups": ["group:ops", "group:dev"]},
                {"login": "bo@x.org"},
            ]}""",
        }
    )
    assert _compiled(found).document.groups == {
        "group:ops": ("bo@x.org", "ana@x.org"),
        "group:dev": ("ana@x.org",),
    }


def test_tags_join_the_tag_owners_of_the_policy() -> None:
    """A tag of tags.hujson can be used in rules and has the owners that it says."""
    found = good(
        {
            "policy.hujson": """{
                "groups": {"group:ops": ["bo@x.org"]},
                "acls": [{"action": "accept", "src": ["tag:web"], "dst": ["tag:db:5432"]}],
            }""",
            "tags.hujson": """{"tags": {
                "tag:web": {"owners": ["group:ops"], "description": "front ends"},
                "tag:db": {},
            }}""",
        }
    )
    owners = _compiled(found).document.tag_owners
    assert {tag: [str(one) for one in ones] for tag, ones in owners.items()} == {
        "tag:web": ["group:ops"],
        "tag:db": [],
    }


def test_a_tag_declared_in_both_files_shows_both_places() -> None:
    """Owners would depend on the order of reading otherwise."""
    files = {
        "policy.hujson": '{"acls": [],\n "tagOwners": {"tag:web": []}}',
        "tags.hujson": '{"tags": {\n  "tag:web": {}}}',
    }
    assert said(files) == [
        (
            "tags.hujson:2:3",
            '"tag:web"',
            'tag "tag:web" is declared twice',
            "the other one is at policy.hujson:2:16",
        )
    ]


def test_with_declared_people_a_policy_names_nobody_else() -> None:
    """users.hujson says who there is, so another login is a mistake, with a suggestion."""
    files = {
        "policy.hujson": '{"acls": [{"action": "accept", "src": ["anna@x.org"], "dst": ["*:*"]}]}',
        "users.hujson": '{"users": [{"login": "ana@x.org"}]}',
    }
    assert said(files) == [
        (
            "policy.hujson:1:40",
            '"anna@x.org"',
            'user "anna@x.org" is not known',
            'did you mean "ana@x.org"?',
        )
    ]


def test_a_broken_file_does_not_blame_the_policy_for_its_names() -> None:
    """Groups and tags of a file that cannot be read are not reported as missing too."""
    files = {
        "policy.hujson": '{"acls": [{"action": "accept", "src": ["group:a"], "dst": ["tag:b:1"]}]}',
        "users.hujson": '{"users": [',
        "tags.hujson": "{,}",
    }
    assert [place for place, *_ in said(files)] == ["tags.hujson:1:2", "users.hujson:1:12"]


def test_every_file_may_name_its_schema() -> None:
    """`$schema` is for editors and means nothing here."""
    found = good(
        {
            "policy.hujson": '{"$schema": "p.json", "acls": []}',
            "users.hujson": '{"$schema": "u.json", "users": []}',
            "tags.hujson": '{"$schema": "t.json", "tags": {}}',
            "derp.hujson": '{"$schema": "d.json"}',
            "dns.hujson": '{"$schema": "n.json"}',
            "tailnet.hujson": '{"$schema": "s.json", "keyExpiry": "90d"}',
        }
    )
    assert found.settings == Settings(key_expiry=timedelta(days=90))
    assert (found.users, found.dns, found.relays) == ((), Dns(), Relays())


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
_KEYS = [
    "users", "login", "role", "groups", "tags", "owners", "Regions", "1", "RegionID", "Nodes",
    "Name", "HostName", "IPv4", "nameservers", "splitDNS", "extraRecords", "name", "type", "value",
    "overrideLocalDNS", "keyExpiry", "magicDNSSuffix", "ephemeralTimeout", "OmitDefaultRegions",
]  # fmt: skip
_DOCUMENT = st.recursive(
    _JSON | st.sampled_from(["A", "180d", "group:a", "tag:a", "1.1.1.1", "a@b.c", True]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(_KEYS) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(FILES), _DOCUMENT, max_size=6))
def test_no_document_makes_reading_raise(documents: dict[str, object]) -> None:
    """Whatever JSON a file holds, the answer is a declaration or an error with a place."""
    import json

    files = {name: json.dumps(document) for name, document in documents.items()}
    declaration, diagnostics = declare(files)
    assert (declaration is None) is any(one.severity == "error" for one in diagnostics)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(FILES), st.text(max_size=40), max_size=6))
def test_no_text_makes_reading_raise(files: dict[str, str]) -> None:
    """Nor does text that is no JSON at all."""
    declaration, diagnostics = declare(files)
    assert (declaration is None) is any(one.severity == "error" for one in diagnostics)


def test_a_policy_whose_tests_fail_is_not_declared_unless_they_are_left_out() -> None:
    """A new commit is tested; one that came into force before is only read."""
    files = {"policy.hujson": '{"acls": [], "tests": [{"src": "a@b.c", "accept": ["a@b.c:1"]}]}'}
    assert [(place, text) for place, text, *_ in said(files)] == [
        ("policy.hujson:1:52", '"a@b.c:1"')
    ]
    declaration, diagnostics = declare(files, tested=False)
    assert declaration is not None
    assert diagnostics == ()
    assert [one.code for one in selftest(declaration)] == ["policy.test-failed"]


def test_reading_starts_quickly() -> None:
    """The command line imports this; what takes long to import is left for when it is needed."""
    program = (
        "import sys, mergescale.policy.repository;"
        "sys.exit(bool({'jsonschema', 'pydantic', 'asyncio'} & set(sys.modules)))"
    )
    path = str(Path(mergescale.__file__).parents[1])
    subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": path}, check=True)
