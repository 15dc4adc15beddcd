"""How git is lent what opens the repository, and that nothing of it stays."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from mergescale.gitops.git.access import Access, cleared, folder_of, lent
from mergescale.gitops.git.messages import Request

URL = "https://git.example.com/acme/policy"
HEADER = "Authorization: Basic Y2FuYXJ5OmNhbmFyeQ=="


def configured(variables: dict[str, str], url: str, folder: Path) -> list[str]:
    """Return what git itself takes from these variables for a URL: header and authorities."""
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        **variables,
    }
    found = []
    for name in ("http.extraHeader", "http.sslCAInfo"):
        done = subprocess.run(
            ["git", "config", "--get-urlmatch", name, url],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        found.append(done.stdout.strip())
    return found


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        (URL, True),
        (f"{URL}/info/refs", True),
        ("https://git.example.com/acme/policy-of-others", False),
        ("https://git.example.com/acme", False),
        ("https://git.example.com:8443/acme/policy", False),
        ("http://git.example.com/acme/policy", False),
        ("https://evil.example.com/acme/policy", False),
    ],
)
def test_a_header_is_for_one_address(tmp_path: Path, url: str, *, sent: bool) -> None:
    """By git's own rules: scheme, host, port and whole parts of the path."""
    access = Access(header=HEADER, ca_file="/ca.pem")
    with lent(access, URL, tmp_path / "access") as variables:
        assert configured(variables, url, tmp_path) == ([HEADER, "/ca.pem"] if sent else ["", ""])
        assert not (tmp_path / "access").exists()


def test_a_key_lies_in_files_that_nobody_else_reads(tmp_path: Path) -> None:
    """For the time of a look, and not after it, whatever a killed look left behind before."""
    folder = tmp_path / "access"
    folder.mkdir()
    (folder / "key").write_text("of a look that was killed")
    with lent(Access(key="a key\n", known_hosts="hosts\n"), URL, folder) as variables:
        assert {path.name: path.read_text() for path in folder.iterdir()} == {
            "key": "a key\n",
            "known_hosts": "hosts\n",
        }
        modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        assert (stat.S_IMODE(folder.stat().st_mode), modes) == (0o700, {0o600})
        assert variables["MERGESCALE_ACCESS"] == str(folder)
        command = variables["GIT_SSH_COMMAND"]
        for word in ("StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "IdentityAgent=none"):
            assert f" -o{word}" in command
        assert str(folder) not in command
    assert not folder.exists()


def test_nothing_stays_of_a_look_that_breaks(tmp_path: Path) -> None:
    """Nor does it matter when there is nothing to take away."""
    folder = tmp_path / "access"

    def broken() -> None:
        with lent(Access(key="a key"), URL, folder):
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        broken()
    assert not folder.exists()
    cleared(folder)


def test_without_a_credential_nothing_is_set(tmp_path: Path) -> None:
    """What the server's account has goes on to be used."""
    with lent(Access(), URL, tmp_path / "access") as variables:
        assert variables == {}


def test_a_request_in_a_traceback_tells_nothing() -> None:
    """It is what the child process is asked with."""
    assert folder_of(Path("/var/git/default.git")) == Path("/var/git/default.access")
    access = Access(header=HEADER, key="canary", known_hosts="hosts")
    request = Request(
        url=URL, transport="https", ref="r", folder="", store="s", known="", applied="",
        timeout_s=1, access=access,
    )  # fmt: skip
    assert "canary" not in repr(request)
    assert HEADER not in repr(request)
