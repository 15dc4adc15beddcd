"""What a gate refuses, its plan and its approval, with a real repository, server and command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.command_line import CommandLine
from support.real_clients import eventually
from support.server_process import PolicyRepository, ServerProcess, serving

pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(120)]


def test_an_approved_plan_lets_a_refused_commit_pass(tmp_path: Path) -> None:
    """The plan made offline has the server's hash, and the approval stays with the deployment."""
    repository = PolicyRepository.from_example(tmp_path / "policy", "01-start-up")
    good, users = repository.git("rev-parse", "HEAD"), repository.read("users.hujson")
    server = ServerProcess(tmp_path / "state", repository.folder)
    cli, inventory = CommandLine(("--state-dir", str(server.state_dir))), tmp_path / "tailnet.json"

    def in_force() -> str:
        commit: str = cli("gitops", "status", "-o", "json").json["current"]["commit"]
        return commit

    later = "ab" * 20
    with serving(server):
        eventually("the first is in force", lambda: in_force() == good, within_s=20)
        assert cli("gitops", "approve", later, "--reason", "known since Monday").code == 0
    with serving(server):
        assert later[:12] in cli("gitops", "status").out
        assert '"admin"' in users
        bad = repository.commit("nobody rules", users=users.replace('"admin"', '"auditor"'))
        assert cli("gitops", "sync").code == 3
        shown = cli("gitops", "status")
        assert "lockout: nobody is an administrator any more (1 were)" in shown.out
        assert f"mergescale gitops approve {bad[:12]} --reason" in shown.err
        assert in_force() == good
        assert cli("inventory", "export", "--out", str(inventory)).code == 0
        ahead = cli("gitops", "plan")
        counted = cli("gitops", "plan", "--redact", "counts", "--format", "markdown")
        assert (ahead.code, counted.code) == (4, 4)
        assert "carol@example.com: admin -> auditor" in ahead.out
        assert "example.com" not in counted.out
        offline = CommandLine()(
            *("policy", "plan", "--repo", str(repository.folder), "--base", good, "--head", bad),
            *("--inventory", str(inventory), "--format", "json"),
        )
        planned = json.loads(offline.out)["hash"]
        assert (offline.code, ahead.out.splitlines()[-1]) == (4, f"plan {planned[:12]}")
        why = ("--reason", "moved to single sign-on")
        other = cli("gitops", "approve", bad[:12], *why, "--plan", "0" * 12)
        assert other.code != 0
        assert f"it is {planned[:12]} now" in other.err
        done = cli("gitops", "approve", bad[:12], *why, "--plan", planned[:12])
        assert (done.code, in_force()) == (0, bad)
        past = cli("gitops", "history", "-o", "json").json["deployments"]
        assert [(one["commit"], one["approvedBecause"]) for one in past] == [
            (bad, "moved to single sign-on"),
            (good, None),
        ]
        assert "moved to single sign-on" in cli("gitops", "history").out
        assert cli("gitops", "plan").code == 0
    used = server.events("gitops.approval-used")
    assert [(one["commit"], one["gates"], one["frozen"]) for one in used] == [
        (bad, ["lockout"], False)
    ]
