"""The repository's own rules: what a stranger finds is true."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from mergescale.server.settings import Settings

ROOT = Path(__file__).parents[2]


def tracked() -> list[Path]:
    """Return the files git tracks; all files where there is no git (an unpacked archive)."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_nothing_names_a_registry_or_a_machine() -> None:
    """No file holds a package registry's host name or a path of somebody's machine."""
    hosts = [r"pypi\.org", r"pythonhosted", r"registry\.npmjs", r"proxy\.golang", r"crates\.io"]
    paths = ["/" + "work/", "/" + "root/", "/" + "home/[a-z]+/"]
    forbidden = re.compile("|".join(hosts + paths))
    for path in tracked():
        if path == Path(__file__):
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        found = forbidden.search(text)
        assert found is None, f"{path.relative_to(ROOT)}: {found}"


def test_requirements_are_hashed_and_have_no_address() -> None:
    """Every requirement has a hash, and no line says where it comes from."""
    for name in ("runtime", "dev", "fuzz", "mutate"):
        text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
        blocks = re.split(r"\n(?=[a-z0-9])", text.strip())
        assert len(blocks) > 20
        assert all("--hash=sha256:" in block for block in blocks)
        assert "://" not in text
        assert "--index-url" not in text


def test_the_readme_names_every_setting() -> None:
    """A setting that is not documented does not exist for its users."""
    readme = (ROOT / "README.md").read_text("utf-8")
    missing = [n for n in Settings.model_fields if f"MERGESCALE_{n.upper()}" not in readme]
    assert missing == []


def test_the_readme_names_only_words_that_exist() -> None:
    """Every ``make x`` of the README is a target, and every target is told by ``make help``."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    phony = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split())  # type: ignore[index]
    readme = (ROOT / "README.md").read_text("utf-8")
    named = set(re.findall(r"(?:`|^    )make ([a-z-]+)", readme, re.MULTILINE))
    assert {"demo", "test", "serve", "check", "help"} <= named <= targets
    assert targets == phony


def test_ci_runs_what_the_readme_says() -> None:
    """``.ci/run`` calls the README's test command, the forge's workflow ``make check``."""
    assert re.search(r"make test\b", (ROOT / ".ci" / "run").read_text("utf-8"))
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    assert "make check" in workflow
