"""Going back with a real repository, a real server and the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.command_line import CommandLine
from support.real_clients import eventually
from support.server_process import PolicyRepository, ServerProcess, serving

pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(120)]


def test_a_rollback_without_the_remote_outlives_a_restart(tmp_path: Path) -> None:
    """The commit before is in force again, and stays so until somebody resumes."""
    repository = PolicyRepository.from_example(tmp_path / "policy", "01-start-up")
    good, policy = repository.git("rev-parse", "HEAD"), repository.read()
    server = ServerProcess(tmp_path / "state", repository.folder)
    cli, away = CommandLine(("--state-dir", str(server.state_dir))), tmp_path / "away"

    def in_force() -> str:
        commit: str = cli("gitops", "status", "-o", "json").json["current"]["commit"]
        return commit

    def applied() -> tuple[bool | None, str]:
        conditions = cli("gitops", "status", "-o", "json").json["conditions"]
        (one,) = (one for one in conditions if one["name"] == "Applied")
        return one["state"], one["reason"]

    with serving(server):
        eventually("the first is in force", lambda: in_force() == good, within_s=20)
        repository.git("checkout", "--quiet", "-b", "proposed")
        repository.commit("a comment", policy=f"// for nothing\n{policy}")
        repository.git("checkout", "--quiet", "main")
        repository.git("merge", "--quiet", "--no-ff", "--no-edit", "proposed")
        bad = repository.git("rev-parse", "HEAD")
        assert cli("gitops", "sync").code == 0
        assert in_force() == bad
        same = cli("gitops", "diff", good[:12], bad[:12])
        assert (same.code, same.out.splitlines()[0]) == (0, "verdict: no effect")
        repository.folder.rename(away)
        ended = cli("gitops", "rollback", good[:12], "--reason", "it broke ssh", "--yes")
        assert (ended.code, ended.out) == (
            0,
            f'{good[:12]} "a first policy" by Ana is in force; following is suspended\n',
        )
        revert = f"git revert --no-edit -m 1 --first-parent {good[:12]}..{bad[:12]}"
        assert ended.err.splitlines() == [
            f"make the branch say so too: {revert}",
            "then: mergescale gitops resume",
        ]
        assert in_force() == good
        # Also what cannot be fetched any more is known not to be in force.
        eventually("it says so", lambda: applied() == (False, "Suspended"))
        assert cli("gitops", "rollback", "0123456", "--reason", "x", "--yes").err.startswith(
            'error: "0123456" was not in force\n'
        )
    with serving(server):
        assert in_force() == good
        status = cli("gitops", "status")
        assert status.code == 3
        assert [
            line.split()[:2] for line in status.out.splitlines() if line.startswith("Suspended")
        ] == [["Suspended", "true"]]
        assert "it broke ssh" in status.out
        away.rename(repository.folder)
        assert cli("gitops", "sync").code == 3
        assert in_force() == good
        repository.git(*revert.split()[1:])
        reverted = repository.git("rev-parse", "HEAD")
        resumed = cli("gitops", "resume", "--yes")
        assert (resumed.code, in_force()) == (0, reverted)
        assert resumed.out.splitlines()[0] == "verdict: no effect"
        past = cli("gitops", "history", "-o", "json").json["deployments"]
        assert [(one["commit"], one["reason"], one["inForce"]) for one in past] == [
            (reverted, None, True),
            (good, "it broke ssh", False),
            (bad, None, False),
            (good, None, False),
        ]
        told = cli("gitops", "history", "--limit", "2").out.splitlines()
        assert (len(told), told[2].split()[0]) == (3, good[:12])
