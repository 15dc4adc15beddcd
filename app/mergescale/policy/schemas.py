"""Writes ``schemas/``: the JSON Schema of every file that a watched repository may hold.

python -m mergescale.policy.schemas [folder]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from mergescale.policy.files import policy
from mergescale.policy.repository import POLICY, SCHEMAS, SUFFIX


def published() -> Iterator[tuple[str, str]]:
    """Yield (file name, text) of each schema."""
    for name, schema in {POLICY: policy.SCHEMA, **SCHEMAS}.items():
        text = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        yield f"{name.removesuffix(SUFFIX)}.schema.json", text


def main(folder: str = "schemas") -> None:
    """Write all of them into a folder, which is made if it is not there."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    for name, text in published():
        (place / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:2])
