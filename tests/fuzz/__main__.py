"""Fuzz one target with atheris (``make fuzz``): ``python tests/fuzz <target> [libFuzzer options]``.

The committed seeds are the beginning, and for languages a list of words (``<target>.dict``). What
libFuzzer finds new goes to the first folder it is given, never into the seeds. A crash writes its
input to the current folder: fix the code, and add the input to the seeds, which
``test_fuzz_seeds.py`` replays.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

HERE = Path(__file__).parent

with atheris.instrument_imports(include=["mergescale", "fuzz"]):
    sys.path.insert(0, str(HERE.parent))
    from fuzz.targets import TARGETS


def main() -> None:
    """Run until libFuzzer's own limits (``-max_total_time``) or the first crash."""
    name, *options = sys.argv[1:]
    seeds, words = HERE / "seeds" / name, HERE / f"{name}.dict"
    if words.exists():
        options.insert(0, f"-dict={words}")
    atheris.Setup([sys.argv[0], *options, str(seeds)], TARGETS[name])
    atheris.Fuzz()


main()
