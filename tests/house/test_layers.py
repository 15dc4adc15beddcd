"""The architecture is what pyproject.toml says it is."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import mergescale

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "app" / "mergescale"
PACKAGES = sorted(module.name for module in pkgutil.iter_modules([str(SOURCE)]) if module.ispkg)
LONGEST_MODULE = 400
LONGEST_FUNCTION = 60


def test_layers_point_down() -> None:
    """No import, not even one inside a function or for typing, goes up a layer."""
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [command, "--no-cache"], check=False, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_the_tree_is_the_architecture() -> None:
    """``ls app/mergescale`` names every package of the design and no other."""
    assert (
        sorted(
            [
                "api",
                "cli",
                "control",
                "domain",
                "fanout",
                "gitops",
                "identity",
                "kernel",
                "netmap",
                "plan",
                "policy",
                "relay",
                "server",
                "state",
                "store",
                "web",
                "wire",
            ]
        )
        == PACKAGES
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_what_it_is_for(package: str) -> None:
    """A package's docstring has a first line and more below it."""
    doc = importlib.import_module(f"{mergescale.__name__}.{package}").__doc__ or ""
    assert len(doc.strip().splitlines()) >= 3, package


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE))
)
def test_long_modules_and_functions_give_a_reason(path: Path) -> None:
    """Past 400 lines the module's docstring says ``LIMIT(length):``; no function passes 60."""
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    if text.count("\n") > LONGEST_MODULE:
        assert "LIMIT(length):" in (ast.get_docstring(tree) or "")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            is_factory = any(
                isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) for n in node.body
            )
            assert lines <= LONGEST_FUNCTION or is_factory, f"{node.name} has {lines} lines"
