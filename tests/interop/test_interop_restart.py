"""A server that is killed and comes back: what clients have of it, and what they keep."""

from __future__ import annotations

import signal
from datetime import datetime
from typing import Any

import pytest

from support.real_clients import eventually
from support.site import CLOSED, WEB, Site

# A Go client that is refused a connection waits before it tries again, longer each time.
pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


@pytest.mark.both_databases
def test_clients_survive_a_killed_server(site: Site) -> None:
    """Direct traffic goes on without the server; after a restart clients are back by themselves."""
    site.apply("the web is open", policy=WEB)
    server = site.joined_tagged("archive", "tag:web")
    reader = site.joined("scholar", peers=["archive"])
    eventually("there is a path", lambda: reader.reaches("archive"), within_s=15)
    before = {name: _lasting(site.device(name)) for name in ("archive", "scholar")}

    site.server.stop(signal.SIGKILL)
    assert all(reader.reaches("archive") for _ in range(3))
    started = _now()
    site.server.start()
    assert all(reader.reaches("archive") for _ in range(3))

    eventually(
        "both are back", lambda: _streams(site, started) == {"archive", "scholar"}, within_s=40
    )
    assert {name: _lasting(site.device(name)) for name in ("archive", "scholar")} == before
    assert reader.reaches("archive")
    assert (server.state, reader.state) == ("Running", "Running")

    # The streams are alive: a commit made after the crash arrives.
    site.apply("take it away", policy=CLOSED)
    eventually("it is cut off", lambda: reader.cut_off("archive"), within_s=15)
    site.apply("give it back", policy=WEB)
    eventually("it is let in again", lambda: reader.reaches("archive"), within_s=20)


def test_a_commit_made_meanwhile_is_found(site: Site) -> None:
    """A commit made while the server was down is in force for clients once they are back."""
    site.apply("the web is open", policy=WEB)
    site.joined_tagged("vault", "tag:web")
    thief = site.joined("burglar", peers=["vault"])
    eventually("there is a path", lambda: thief.reaches("vault"), within_s=15)

    site.server.stop()
    commit = site.repository.commit("lock it", policy=CLOSED)
    site.server.start()

    eventually("it is in force", lambda: site.gitops()["current"]["commit"] == commit, within_s=15)
    eventually("it is cut off", lambda: thief.cut_off("vault"), within_s=40)


def test_the_last_good_commit_survives_a_lost_repository(site: Site) -> None:
    """With the repository gone a restarted server serves the commit it has stored."""
    good = site.apply("the web is open", policy=WEB)
    site.joined_tagged("beacon", "tag:web")
    sailor = site.joined("sailor", peers=["beacon"])
    eventually("there is a path", lambda: sailor.reaches("beacon"), within_s=15)

    away = site.repository.folder.rename(site.folder / "lost")
    try:
        site.server.stop()
        started = _now()
        site.server.start()
        eventually(
            "both are back", lambda: _streams(site, started) >= {"beacon", "sailor"}, within_s=40
        )
        assert site.gitops()["current"]["commit"] == good
        assert sailor.reaches("beacon")
    finally:
        away.rename(site.repository.folder)


def _now() -> str:
    return datetime.now().astimezone().isoformat()  # noqa: TID251 - compared with a log


def _streams(site: Site, since: str) -> set[str]:
    """Return the names of the nodes that were sent a full map since then, by the server's log."""
    start = datetime.fromisoformat(since)
    full = {
        str(sent["node"])
        for sent in site.server.events("map.sent")
        if sent["kind"] == "full" and datetime.fromisoformat(sent["timestamp"]) >= start
    }
    return {name for name, device in site.api.devices().items() if device["id"] in full}


def _lasting(device: dict[str, Any]) -> dict[str, Any]:
    """Return what a restart must not change."""
    kept = ("id", "nodeId", "name", "addresses", "user", "tags", "nodeKey", "expires", "created")
    return {name: device[name] for name in kept}
