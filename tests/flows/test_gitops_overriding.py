"""An emergency, on the command line of a real server: override, pin, suspend for a while."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.command_line import CommandLine
from support.plain import PLAIN
from support.real_clients import eventually
from support.server_process import PolicyRepository, ServerProcess, serving

pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(120)]

NOBODY = '{"acls": []}\n'


def health(server: ServerProcess) -> dict[str, Any]:
    """Return what the health says of the repository."""
    told: dict[str, Any] = httpx.get(f"{server.url}/health", verify=PLAIN, trust_env=False).json()
    [found] = told["checks"]["repository:default"]
    return dict(found)


def test_an_emergency_from_beginning_to_end(tmp_path: Path) -> None:
    """It is seen everywhere, outlives a kill -9 and a dead remote, and ends by itself or on word."""
    repository = PolicyRepository.from_example(tmp_path / "policy", "01-start-up")
    good = repository.git("rev-parse", "HEAD")
    server = ServerProcess(tmp_path / "state", repository.folder)
    cli, away = CommandLine(("--state-dir", str(server.state_dir))), tmp_path / "away"
    emergency = tmp_path / "emergency.hujson"
    emergency.write_text(NOBODY, "utf-8")

    def status() -> dict[str, Any]:
        told: dict[str, Any] = cli("gitops", "status", "-o", "json").json
        return told

    def in_force() -> str:
        return str(status()["current"]["commit"])

    def override(*arguments: str) -> Any:
        words = ("--reason", "a break-in", "--yes")
        return cli("gitops", "override", str(emergency), *words, *arguments)

    with serving(server):
        eventually("the first is in force", lambda: in_force() == good, within_s=20)
        assert override().code == 2
        assert override("--for", "8d").err.startswith("error: an override lasts 7 days at most\n")
        emergency.write_text('{"groops": 1}', "utf-8")
        refused = override("--for", "1h")
        assert (refused.code, refused.err[:25]) == (1, "error: policy.hujson:1:1:")
        assert in_force() == good
        emergency.write_text(NOBODY, "utf-8")
        assert override("--for", "1h").code == 0
        shown = cli("gitops", "status")
        assert shown.code == 3
        assert shown.out.startswith("OVERRIDDEN by ")
        assert ": a break-in\n" in shown.out
        pushed = repository.commit("meanwhile")
        assert cli("gitops", "sync").code == 3
        assert in_force() not in (good, pushed)
        assert [one["state"] for one in status()["conditions"] if one["name"] == "Drifted"] == [
            True
        ]
        assert health(server)["status"] == "pass"
        assert "Drifted: Overridden" in health(server)["output"]
        past = cli("gitops", "history", "-o", "json").json["deployments"]
        assert [(one["subject"], one["reason"], one["until"] is None) for one in past] == [
            ("an operator's override", "a break-in", False),
            ("a first policy", None, True),
        ]
        repository.folder.rename(away)
        server.stop(signal.SIGKILL)
    with serving(server):
        assert status()["override"]["reason"] == "a break-in"
        assert cli("gitops", "override", "--off", "--yes").code == 0
        assert in_force() == good
        assert override("--for", "1s").code == 0
        eventually("it is over", lambda: in_force() == good, within_s=20)
        away.rename(repository.folder)
        assert cli("gitops", "sync").code == 0
        assert in_force() == pushed
        pinned = cli("gitops", "pin", good[:12], "--reason", "an audit", "--yes")
        assert (pinned.code, pinned.out) == (
            0,
            f'{good[:12]} "a first policy" by Ana is in force, and stays\n',
        )
        assert cli("gitops", "sync").code == 3
        assert in_force() == good
        assert "Suspended: Pinned" in health(server)["output"]
        assert cli("gitops", "pin", "--off", "--yes").code == 0
        assert in_force() == pushed
        assert cli("gitops", "suspend", "--reason", "a change").code == 0
        between, tip = repository.commit("never in force"), repository.commit("nor was this")
        assert cli("gitops", "sync").code == 3
        repository.folder.rename(away)
        pinned = cli("gitops", "pin", between[:12], "--reason", "this one", "--yes")
        assert (pinned.err, in_force()) == ("", between)
        stranger = cli("gitops", "pin", "0123456789", "--reason", "x", "--yes")
        assert (stranger.code, stranger.err.splitlines()[0]) == (
            1,
            "error: there is no repository at the configured address",
        )
        away.rename(repository.folder)
        stranger = cli("gitops", "pin", "0123456789", "--reason", "x", "--yes")
        assert (stranger.code, stranger.err.splitlines()[0]) == (
            1,
            "error: the commit is not in the history of what is followed",
        )
        assert cli("gitops", "resume", "--yes").code == 0
        assert in_force() == tip
        assert cli("gitops", "suspend", "--reason", "on call", "--for", "1s").code == 0
        newest = repository.commit("after that")
        eventually("it went on by itself", lambda: in_force() == newest, within_s=20)
