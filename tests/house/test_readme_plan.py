"""The comment of a pull request that the README shows is what the plan says today."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mergescale.domain.declaration import Declaration
from mergescale.netmap.inventory import populate, read_inventory, revision
from mergescale.plan.build import make_plan
from mergescale.plan.gates import Limits
from mergescale.plan.markdown import as_markdown
from mergescale.plan.side import Side, tree_of
from mergescale.policy.repository import declare

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "policy_examples" / "01-start-up"
#: What the pull request changes in its policy.
WAS, IS = '"dst": ["tag:web:80"]', '"dst": ["tag:web:443"]'
OPS, WITH_STAFF = '"src": ["group:ops"]', '"src": ["group:ops", "bob@example.com"]'
OWNERS = ("alice@example.com", "bob@example.com", "carol@example.com")
NODES: list[dict[str, Any]] = [
    *({"name": f"{one.partition('@')[0]}s-laptop", "user": one} for one in OWNERS),
    {"name": "web-1", "tags": ["tag:web"]},
    {"name": "web-2", "tags": ["tag:web"]},
]


def test_the_comment_in_the_readme_is_what_the_plan_says() -> None:
    """Quoted, so that it looks there as it does below a pull request."""
    nodes = [
        {**one, "ipv4": f"100.64.0.{number}", "ipv6": f"fd7a:115c:a1e0::{number}"}
        for number, one in enumerate(NODES, 1)
    ]
    users = [{"login_name": one} for one in OWNERS]
    inventory = read_inventory({"domain": "example.com", "users": users, "nodes": nodes})
    was = {one.name: one.read_text("utf-8") for one in EXAMPLE.glob("*.hujson")}
    text = was["policy.hujson"]
    assert WAS in text
    assert OPS in text
    head = {**was, "policy.hujson": text.replace(WAS, IS).replace(OPS, WITH_STAFF)}
    declared: list[Declaration] = []
    for files in (was, head):
        declaration, found = declare(files)
        assert declaration is not None, found
        declared.append(declaration)
    before, after = (populate(inventory, one) for one in declared)
    plan = make_plan(
        Side(tree_of(was), declared[0], before),
        Side(tree_of(head), declared[1], after),
        revision(inventory),
        Limits(),
    )
    quoted = "".join(f"> {line}".rstrip() + "\n" for line in as_markdown(plan).splitlines())

    assert quoted in (ROOT / "README.md").read_text("utf-8"), f"put this there:\n{quoted}"
