"""Many pushes within a second, with a forge and operators who ask at the same time."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from support.command_line import CommandLine
from support.real_clients import eventually
from support.server_process import PolicyRepository, ServerProcess, serving

pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(120)]

_PUSHES = 8


def test_a_burst_of_pushes_ends_at_the_tip(tmp_path: Path) -> None:
    """Each is applied once or not at all, in order; the status is that of the last one."""
    repository = PolicyRepository.from_example(tmp_path / "policy", "01-start-up")
    policy = repository.read()
    server = ServerProcess(tmp_path / "state", repository.folder)
    cli = CommandLine(("--state-dir", str(server.state_dir)))
    with serving(server) as api, ThreadPoolExecutor(4) as others:
        eventually("the first is in force", lambda: cli("gitops", "status").code == 0)
        pushed, asked = [repository.git("rev-parse", "HEAD")], []
        for number in range(_PUSHES):
            bad = number == _PUSHES // 2
            text = "{" if bad else f"{policy}// {number}\n"
            pushed.append(repository.commit(f"number {number}", policy=text))
            asked.append(others.submit(api.http.post, "/tailnet/-/gitops/sync", timeout=60))
        answers: list[httpx.Response] = [one.result() for one in asked]
        assert {answer.status_code for answer in answers} == {200}
        # Whoever asked last asked after the last push.
        assert answers[-1].json()["current"]["commit"] == pushed[-1]
        assert cli("gitops", "wait", pushed[-1], "--timeout", "30").code == 0
        past = cli("gitops", "history", "-o", "json").json["deployments"]
        applied = [one["commit"] for one in reversed(past)]
        assert applied == [one for one in pushed if one in applied]
        assert len(applied) == len(set(applied))
        assert pushed[_PUSHES // 2 + 1] not in applied
        overtaken = cli("gitops", "wait", pushed[_PUSHES // 2 + 1], "--timeout", "30")
        assert (overtaken.code, overtaken.out) == (
            0,
            f"{pushed[-1][:12]}, which brings {pushed[_PUSHES // 2 + 1][:12]}, is in force\n",
        )
        unknown = cli("gitops", "wait", "0" * 40, "--timeout", "3")
        assert unknown.code == 3
        status = cli("gitops", "status", "-o", "json").json
        assert (status["problems"], status["target"]["commit"]) == ([], pushed[-1])
        server.stop(signal.SIGKILL)
    with serving(server):
        assert cli("gitops", "wait", pushed[-1], "--timeout", "30").code == 0
        again = cli("gitops", "history", "-o", "json").json["deployments"]
        assert [one["commit"] for one in reversed(again)] == applied
