"""Writes ``schemas/plan.schema.json``: what programs that read plans may rely on.

python -m mergescale.plan.schema [folder]

Made from `model`: types, and as descriptions what its docstrings say of each member.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from mergescale.plan import model

NAME: Final = "plan.schema.json"
_REF: Final = "#/$defs/"
#: A line of ``Attributes:``, which may be about several members.
_ABOUT: Final = re.compile(r"(\w+(?:, \w+)*): (.+)")


def schema() -> str:
    """Return the JSON Schema (draft 2020-12) of `model.Plan`; it points nowhere."""
    _, parts = msgspec.json.schema_components((model.Plan,))
    whole = _inlined({"$ref": f"{_REF}Plan"}, parts)
    whole["properties"]["version"]["const"] = model.VERSION
    text = {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole}
    return json.dumps(text, indent=2, ensure_ascii=False) + "\n"


def main(folder: str = "schemas") -> None:
    """Write the file into a folder, which is made if need be."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    (place / NAME).write_text(schema(), "utf-8")


def _inlined(value: Any, parts: dict[str, Any]) -> Any:
    """Return a schema with every part in the place of what points to it."""
    match value:
        case {"$ref": str(ref), **rest}:
            part = _described(ref.removeprefix(_REF), parts)
            return {**_inlined(part, parts), **rest}
        case dict():
            return {name: _inlined(one, parts) for name, one in value.items()}
        case list():
            return [_inlined(one, parts) for one in value]
        case _:
            return value


def _described(name: str, parts: dict[str, Any]) -> dict[str, Any]:
    """Return a part with what its docstring says: of itself, and of each member."""
    doc = inspect.getdoc(getattr(model, name)) or ""
    about, (first, *_) = _members(doc), doc.split("\n")
    part = {**parts[name], "description": first}
    if "properties" in part:
        part["properties"] = {
            member: {**one, "description": about[member]}
            for member, one in part["properties"].items()
        }
    return part


def _members(doc: str) -> dict[str, str]:
    """Return what ``Attributes:`` of a docstring says of each."""
    _, _, section = doc.partition("\nAttributes:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.split("\n"):
        if not line.startswith("    "):
            break
        text = line.strip()
        if not line.startswith("     ") and (match := _ABOUT.fullmatch(text)):
            names, text = match[1].split(", "), match[2]
            found.update(dict.fromkeys(names, text))
        else:
            found.update((name, f"{found[name]} {text}") for name in names)
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
