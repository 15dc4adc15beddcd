"""What is in ``schemas/`` is what the code says, and it is a schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from mergescale.plan.schema import NAME, schema
from mergescale.plan.schema import main as write_plan
from mergescale.policy.check import check
from mergescale.policy.files import policy
from mergescale.policy.hujson import parse
from mergescale.policy.schemas import main, published

SCHEMAS = Path(__file__).parents[2] / "schemas"


def test_published_schemas_are_fresh() -> None:
    """`make schemas` would change nothing, and nothing else lies in the folder."""
    found = {path.name: path.read_text("utf-8") for path in SCHEMAS.iterdir()}
    assert found == {**dict(published()), NAME: schema()}


def test_the_command_writes_every_schema(tmp_path: Path) -> None:
    """The command makes the folder and one file for each document."""
    main(str(tmp_path / "new"))
    write_plan(str(tmp_path / "new"))
    written = {path.name: path.read_text("utf-8") for path in (tmp_path / "new").iterdir()}
    assert written == {**dict(published()), NAME: schema()}


@pytest.mark.parametrize(("name", "text"), [*published(), (NAME, schema())])
def test_schemas_are_draft_2020_12_and_stand_alone(name: str, text: str) -> None:
    """Each passes the meta-schema and points nowhere."""
    schema = json.loads(text)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert '"$ref"' not in text


@pytest.mark.parametrize(("name", "text"), [*published(), (NAME, schema())])
def test_every_key_is_described_for_the_editor(name: str, text: str) -> None:
    """Hovering over any key in an editor says what it is for."""
    assert list(_silent(json.loads(text), name)) == []


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ('{"acls": []}', True),
        ('{"$schema": "x", "grants": [{"src": ["*"], "dst": ["*"], "ip": ["*"]}]}', True),
        (
            (
                '{"groups": {"group:a": ["a@b.c"]}, "hosts": {"h": "10.0.0.1"},'
                ' "tagOwners": {"tag:t": ["group:a"]},'
                ' "acls": [{"action": "accept", "src": ["group:a"], "dst": ["tag:t:80"]}],'
                ' "autoApprovers": {"routes": {"10.0.0.0/8": ["tag:t"]}, "exitNode": ["tag:t"]},'
                ' "tests": [{"src": "a@b.c", "accept": ["tag:t:80"], "deny": ["tag:t:22"]}]}'
            ),
            True,
        ),
        ("{}", False),
        ('{"acls": [], "nonsense": 1}', False),
        ('{"acls": [{"action": "drop", "src": ["*"], "dst": ["*:*"]}]}', False),
        ('{"acls": [{"action": "accept", "dst": ["*:*"]}]}', False),
        ('{"grants": [{"src": ["*"], "dst": ["*"]}]}', False),
        ('{"acls": [], "groups": {"ops": []}}', False),
        ('{"acls": [], "tagOwners": {"web": []}}', False),
    ],
)
def test_the_policy_schema_agrees_with_the_checker(text: str, good: bool) -> None:
    """What an editor underlines is what the server refuses, for the shapes a schema can tell."""
    value, _ = parse(text, "policy.hujson")
    assert value is not None
    document, _ = check(value)
    assert (document is not None) is good
    assert _valid(json.loads(text)) is good


def _valid(instance: Any) -> bool:
    try:
        Draft202012Validator(policy.SCHEMA).validate(instance)
    except ValidationError:
        return False
    return True


def _silent(schema: dict[str, Any], path: str) -> list[str]:
    """Return the paths of properties without a description."""
    silent = []
    for key, inner in schema.get("properties", {}).items():
        where = f"{path}/{key}"
        silent += [] if inner.get("description") else [where]
        silent += _silent(inner, where)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            silent += _silent(schema[key], f"{path}/{key}")
    for inner in schema.get("patternProperties", {}).values():
        silent += _silent(inner, f"{path}/*")
    return silent
