"""A policy in several files, and what a policy without rules means."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from mergescale.policy.compiled import CompiledPolicy
from mergescale.policy.document import PolicyDocument
from mergescale.policy.repository import declare
from support.declared import said

ACCEPT = {"action": "accept", "src": ["*"], "dst": ["*:22"]}


def document(files: Mapping[str, object]) -> PolicyDocument:
    texts = {name: json.dumps(value) for name, value in files.items()}
    declaration, found = declare(texts)
    assert declaration is not None, found
    assert isinstance(declaration.policy, CompiledPolicy)
    return declaration.policy.document


def test_fragments_join_in_path_order() -> None:
    """Lists one after another, maps together, and each rule knows the file it stands in."""
    found = document(
        {
            "policy.hujson": {"acls": [ACCEPT], "groups": {"group:a": ["ana@example.com"]}},
            "policy.d/20-b.hujson": {
                "ACLs": [{**ACCEPT, "src": ["group:b", "group:a"]}],
                "autoApprovers": {"routes": {"10.2.0.0/16": ["group:b"]}, "exitNode": ["group:b"]},
            },
            "policy.d/10-a.hujson": {
                "$schema": "x",
                "groups": {"group:b": ["ben@example.com"]},
                "autoApprovers": {"routes": {"10.1.0.0/16": ["group:a"]}, "exitNode": ["group:a"]},
                "grants": None,
            },
        }
    )

    assert dict(found.groups) == {
        "group:a": ("ana@example.com",),
        "group:b": ("ben@example.com",),
    }
    assert [rule.origin.file for rule in found.rules] == ["policy.hujson", "policy.d/20-b.hujson"]
    assert [str(one.prefix) for one in found.route_approvals] == ["10.1.0.0/16", "10.2.0.0/16"]
    assert [str(one) for one in found.exit_approvers] == ["group:a", "group:b"]


def test_a_folder_of_fragments_is_a_policy() -> None:
    """Nothing has to stand in ``policy.hujson``."""
    assert len(document({"policy.d/a.hujson": {"acls": [ACCEPT]}}).rules) == 1


def test_a_name_declared_twice_is_an_error_at_both_places() -> None:
    """Neither of the two wins."""
    files = {
        "policy.hujson": '{"acls": [],\n "hosts": {"web": "10.0.0.1"}}',
        "policy.d/a.hujson": '{"hosts": {"web": "10.0.0.2"}}',
    }
    assert said(files) == [
        (
            "policy.d/a.hujson:1:12",
            '"web"',
            '"web" is declared twice in hosts',
            "the other one is at policy.hujson:2:12",
        )
    ]


@pytest.mark.parametrize(
    ("fragment", "message"),
    [
        ('{"randomizeClientPort": false}', "randomizeClientPort is set twice"),
        ('{"acls": {}}', "acls must be an array, as it is in policy.hujson:1:2"),
        ("[]", "policy must be an object, not a array"),
        ('{"acl": []}', 'policy key "acl" is not known'),
        ('{"acls": [', "expected a value or ], the file ends"),
    ],
)
def test_a_bad_fragment_refuses_the_whole(fragment: str, message: str) -> None:
    """A fragment that means nothing never leaves a smaller or a larger policy behind."""
    files = {
        "policy.hujson": '{"acls": [], "randomizeClientPort": true}',
        "policy.d/a.hujson": fragment,
    }
    assert message in [one[2] for one in said(files)]


def test_other_folders_are_left_alone() -> None:
    """Only what stands in ``policy.d`` itself counts."""
    declaration, found = declare(
        {"policy.hujson": '{"acls": []}', "policy.d/x/a.hujson": "{", "old/a.hujson": "{"}
    )
    assert declaration is not None
    assert found == ()


def test_a_policy_without_rules_is_open_only_where_the_tailnet_asks_for_it() -> None:
    """The hosted service lets everything through; here that has to be said."""
    refused, found = declare({"policy.hujson": "{}"})
    assert refused is None
    assert [one.code for one in found] == ["policy.no-rules"]

    asked = document({"policy.hujson": {}, "tailnet.hujson": {"openWithoutRules": True}})
    assert [str(rule.sources[0]) for rule in asked.rules] == ["*"]
    closed = document({"policy.hujson": {"acls": []}, "tailnet.hujson": {"openWithoutRules": True}})
    assert closed.rules == ()
