"""Change modules in small ways and see which changes no test notices (``make mutate``).

    python tests/mutate policy/chunks policy/compile --tests tests/unit/policy

mutmut wants the code in ``src``, so it works on a copy of the tree in ``var/mutate``, made anew each
time. A mutant that survives is a test that is missing, or a change that means the same:
``cd var/mutate && mutmut show NAME`` tells it. Interrupted, it tells what it has seen so far.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / "var" / "mutate"
#: What makes filters of a policy; without names, these are mutated.
MODULES: Final = (
    "access",
    "carryover",
    "chunks",
    "compile",
    "membership",
    "places",
    "resolved",
    "table",
)
#: What judges a policy. The captures count where they are beside the checkout.
TESTS: Final = (
    "tests/unit/policy",
    "tests/unit/netmap/test_conformance.py",
    *sorted(
        f"tests/property/{one.name}" for one in (ROOT / "tests/property").glob("test_policy_*")
    ),
)
_CAPTURES: Final = ROOT.parent / "shared"
_RESULT: Final = re.compile(r"^ +mergescale\.(?P<name>\S+): (?P<status>.+)$", re.MULTILINE)
_NAME: Final = re.compile(r"(?P<module>[a-z_.0-9]+)\.x\S+__mutmut_[0-9]+")
#: A mutant that never ends is noticed, too.
_NOTICED: Final = ("killed", "timeout")


def main() -> None:
    """Mutate, run, and print a line for each module; then the names of those that lived."""
    asked = argparse.ArgumentParser(prog="tests/mutate", description=__doc__)
    asked.add_argument("modules", nargs="*", default=[f"policy/{one}" for one in MODULES])
    asked.add_argument("--tests", nargs="+", default=[*TESTS], metavar="PATH")
    asked.add_argument("--jobs", type=int, default=1)
    options = asked.parse_args()
    prepare(options.modules, options.tests)
    try:
        mutmut("run", "--max-children", str(options.jobs))
    except KeyboardInterrupt:
        sys.stdout.write("\n")
    found = mutmut("results", "--all", "true", capture=True)
    report({one["name"]: one["status"] for one in _RESULT.finditer(found)})


def prepare(modules: list[str], tests: list[str]) -> None:
    """Copy the tree as mutmut wants it."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    shutil.copytree(ROOT / "app", FOLDER / "src")
    for one in ("bench", "tests"):
        shutil.copytree(ROOT / one, FOLDER / one)
    if _CAPTURES.exists():
        (FOLDER / "shared").symlink_to(_CAPTURES)
    mutated = [f"src/mergescale/{one.removesuffix('.py')}.py" for one in modules]
    for one in mutated:
        if not (FOLDER / one).exists():
            sys.exit(f"there is no module {one.removeprefix('src/mergescale/')}")
    settings: dict[str, list[str] | bool] = {
        "source_paths": ["src"],
        "also_copy": ["bench"],
        "only_mutate": mutated,
        "pytest_add_cli_args_test_selection": tests,
        "pytest_add_cli_args": ["--hypothesis-profile=mutate"],
        "use_git_change_detection": False,
    }
    text = (ROOT / "pyproject.toml").read_text("utf-8").replace('"app"', '"src"')
    assert "src" in tomllib.loads(text)["tool"]["pytest"]["ini_options"]["pythonpath"]
    lines = [
        f"{name} = {str(value).lower() if value is False else value}"
        for name, value in settings.items()
    ]
    (FOLDER / "pyproject.toml").write_text("\n".join([text, "[tool.mutmut]", *lines, ""]), "utf-8")


def mutmut(*words: str, capture: bool = False) -> str:
    """Run mutmut in the copy; return what it printed, if that is to be captured."""
    ran = subprocess.run(
        [sys.executable, "-m", "mutmut", *words],
        cwd=FOLDER,
        env=os.environ | {"PYTHONPATH": ""},
        stdout=subprocess.PIPE if capture else None,
        text=True,
        check=True,
    )
    return ran.stdout or ""


def report(statuses: dict[str, str]) -> None:
    """Print how many of each module's mutants were noticed, and who was not."""
    counts: dict[str, Counter[str]] = {}
    for name, status in statuses.items():
        found = _NAME.fullmatch(name)
        counts.setdefault(found["module"] if found else "?", Counter())[status] += 1
    print(f"{'module':24}{'mutants':>10}{'run':>8}{'noticed':>10}")
    for module, count in counts.items():
        run = count.total() - count["not checked"]
        noticed = sum(count[one] for one in _NOTICED)
        share = f"{noticed / run:.0%}" if run else ""
        print(f"{module:24}{count.total():10}{run:8}{noticed:10} {share}")
    for name, status in statuses.items():
        if status not in {*_NOTICED, "not checked"}:
            print(f"{status}: mergescale.{name}")


if __name__ == "__main__":
    main()
