"""Our decisions beside those of the hosted control plane.

The captures and their scorer lie beside the checkout and are not part of it; where they are
absent there is nothing to compare with.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mergescale.netmap import evaluate

FOLDER = Path(__file__).resolve().parents[4] / "shared" / "conformance"

#: Captures that no rule can explain, with what shows it.
NOISE = {
    "acl-k03": (
        "one filter for all nodes, but four of seven peers see the router's route, and the router"
        " itself does not have it yet: the capture was made while the route was being approved"
    ),
    "ssh-e1": (
        "the message names the domain PASSKEY, which occurs neither in the policy nor in the"
        " tailnet: names were replaced in the one and not in the other"
    ),
}
needs_captures = pytest.mark.skipif(
    not FOLDER.exists(), reason="the captures are not beside this checkout"
)


@cache
def scorer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("score", FOLDER / "score.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def cases() -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    with gzip.open(FOLDER / "cases.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            case = json.loads(line)
            groups.setdefault(case["group"], []).append(case)
    return groups


def faults(case: dict[str, Any]) -> list[str]:
    tailnet = case["tailnet"]
    network = {
        "domain": tailnet["domain"],
        "server_url": "https://unused",
        "dns": tailnet["dns"],
        "settings": tailnet["settings"],
        "users": case["users"],
        "nodes": case["nodes"],
    }
    found: list[str] = scorer().compare(case, evaluate(case["policy"], network))
    return found


@needs_captures
@pytest.mark.parametrize(
    "group", ["acl", "grant", "nodeattrs", "policytest", "routes", "ssh", "sshtest"]
)
def test_decisions_are_those_of_the_hosted_service(group: str) -> None:
    """Every captured case gives each node what it was sent, or the rejection, but for noise."""
    differing = {case["id"]: found for case in cases()[group] if (found := faults(case))}

    assert differing.keys() == {case["id"] for case in cases()[group]} & NOISE.keys(), differing
