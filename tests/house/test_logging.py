"""How the server logs: one library, constant names of events."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

APP = Path(__file__).parents[2] / "app" / "mergescale"
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
EVENT = re.compile(r"[a-z0-9]+(?:\.[a-z0-9-]+)+")


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(APP.rglob("*.py")):
        yield str(path.relative_to(APP)), ast.parse(path.read_text("utf-8"))


def logged(module: ast.Module) -> Iterator[ast.Call]:
    """Yield the calls ``log.info(…)``."""
    for node in ast.walk(module):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=level)):
                if level in LEVELS:
                    yield node


def test_events_have_constant_names() -> None:
    """An event is found by its name: dotted, lower case, with its values beside it as keys."""
    seen = 0
    for name, module in modules():
        for call in logged(module):
            seen += 1
            match call.args:
                case [ast.Constant(value=str(event))]:
                    assert EVENT.fullmatch(event), f"{name}:{call.lineno}: {event}"
                case _:
                    raise AssertionError(f"{name}:{call.lineno}: one constant name is wanted")
    assert seen > 15


def test_two_modules_know_the_standard_librarys_logging() -> None:
    """All but the log itself speaks through structlog, so that its lines have ids and no secrets."""
    knowing = {
        name
        for name, module in modules()
        for node in ast.walk(module)
        if isinstance(node, ast.Import) and "logging" in {one.name for one in node.names}
    }
    assert knowing == {"server/logs.py", "server/log_pace.py"}
