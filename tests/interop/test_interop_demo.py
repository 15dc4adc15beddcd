"""``make demo`` does what it says; it is the first thing that people try."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.real_clients import caddy_binary

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(caddy_binary() is None, reason="no Go client for this platform"),
]

DEMO = Path(__file__).parents[1] / "demo.py"
#: What has to be seen, in this order.
STORY = (
    r"server up",
    r"joined",
    r"first byte",
    r"committed .*take the access away",
    r"cut",
    r"committed .*give it back",
    r"restored",
    r"opened: pull request #1",
    r"planned: its statuses and the comment",
    r"no longer: group:staff -> tag:web",
    r"merged",
    r"cut",
    r"mergescale/applied, Delivered 2/2",
    r"bad commit .*policy\.hujson:1:3",
    r"nothing changes: [0-9a-f]{9} stays in force",
    r"rolled back",
    r"restored",
    r"everything stopped",
)


@pytest.mark.timeout(180)
def test_the_demo_tells_its_story() -> None:
    """Both acts, each step seen to happen, with exit code 0."""
    done = subprocess.run([sys.executable, str(DEMO)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(".*".join(STORY), done.stdout, re.DOTALL), done.stdout
