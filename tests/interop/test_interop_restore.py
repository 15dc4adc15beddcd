"""A server that is lost for good comes back out of its backup: what real clients have of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.command_line import CommandLine
from support.real_clients import eventually
from support.server_process import ServerProcess
from support.site import CLOSED, WEB, Site, open_site

# A Go client that is refused a connection waits before it tries again, longer each time.
pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A server of its own, since it is taken away."""
    with open_site(tmp_path, settings={}, policy=WEB) as site:
        yield site


def restored(lost: ServerProcess, backup: Path, folder: Path) -> ServerProcess:
    """Return a server made out of a backup alone, at the address of the lost one."""
    there = CommandLine(("--state-dir", str(folder)), {})
    done = there("restore", backup)
    assert done.code == 0, done.err
    return ServerProcess(
        folder,
        lost.repository,
        port=lost.port,
        relay_port=lost.relay_port,
        stun_port=lost.stun_port,
    )


def test_connected_clients_come_back_to_a_restored_server(site: Site) -> None:
    """Backed up while they were connected; nobody logs in again, and traffic and policy flow."""
    web = site.joined_tagged("harbour", "tag:web")
    alice = site.joined("captain", peers=["harbour"])
    eventually("there is a path", lambda: alice.reaches("harbour"), within_s=20)
    kept = ("id", "nodeId", "name", "addresses", "user", "tags", "nodeKey", "expires", "created")
    before = {n: {k: d[k] for k in kept} for n, d in site.api.devices().items()}
    backup = site.folder / "running.backup"
    done = site.server.cli("backup", str(backup), "--with-master-key")
    assert done.returncode == 0, done.stderr

    lost = site.server
    lost.stop()
    shutil.rmtree(lost.state_dir)
    revived = restored(lost, backup, site.folder / "revived")
    try:
        # The clients were not told: their connections broke, and their relay too.
        site.server = revived.start()
        eventually(
            "both are back",
            lambda: (
                {str(e["node"]) for e in revived.events("map.sent") if e["kind"] == "full"}
                >= {d["id"] for d in before.values()}
            ),
            within_s=60,
        )
        assert {n: {k: d[k] for k in kept} for n, d in site.api.devices().items()} == before
        eventually("traffic flows", lambda: alice.reaches("harbour"), within_s=20)
        assert (web.state, alice.state) == ("Running", "Running")
        assert (web.login_url, alice.login_url) == (None, None)
        site.apply("take it away", policy=CLOSED)
        eventually("it is cut off", lambda: alice.cut_off("harbour"), within_s=15)
    finally:
        revived.stop()
