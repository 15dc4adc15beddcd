"""Commits that harm the compiler, tried in real child processes, and a server that lives on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest

from mergescale.domain.snapshot import Snapshot
from mergescale.gitops.errors import Transient
from mergescale.gitops.git.messages import Found
from mergescale.gitops.trying.containment import Bounds, Contained, Trials
from mergescale.kernel.ids import TailnetName
from support.aio import aio, until
from support.command_line import CommandLine
from support.real_clients import eventually
from support.server_process import PolicyRepository, ServerProcess, serving
from support.worlds import world

SMALL = '{"acls": []}'
NOBODY = Snapshot(TailnetName("default"))
#: More than a child uses before it has its input, and less than the large policy needs then.
_IMPORTS_S = 0.9
_TICKS = os.sysconf("SC_CLK_TCK")


@cache
def large() -> str:
    """Return a policy of just under a mebibyte, which the compiler needs seconds for."""
    groups = {
        f"group:g{number}": [f"p{(number * 7 + one) % 400}@example.com" for one in range(80)]
        for number in range(60)
    }
    rules = [
        {
            "src": [f"group:g{number % 60}", f"p{number % 400}@example.com"],
            "dst": [f"group:g{(number + 7) % 60}", f"10.{number % 250}.0.0/16"],
            "ip": [f"tcp:{number % 60_000 + 1}", f"udp:{number % 50_000 + 1}"],
        }
        for number in range(7000)
    ]
    text = json.dumps({"groups": groups, "grants": rules}, separators=(",", ":"))
    assert len(text) < 1 << 20
    return text


def found(text: str) -> Found:
    return Found(
        commit="a" * 40,
        subject="",
        author="",
        committed_s=0,
        descends=True,
        files={"policy.hujson": text},
        faults=[],
    )


@contextlib.asynccontextmanager
async def trials(folder: Path, **bounds: float) -> AsyncIterator[Trials]:
    tried = Trials(folder / "git", Bounds(**bounds))  # type: ignore[arg-type]
    try:
        yield tried
    finally:
        tried.close()


def busy_s(pid: int) -> float:
    """Return the seconds of processor time that a process has used; 0 for one that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return (int(fields[11]) + int(fields[12])) / _TICKS


async def begun(tried: Trials, text: str) -> tuple[asyncio.Task[None], int]:
    """Have a commit tried; return once the child is deep in it."""
    await tried.run(found(SMALL), NOBODY)
    pid = tried.waiting
    assert pid is not None
    trying = asyncio.create_task(tried.run(found(text), NOBODY))
    await until(lambda: busy_s(pid) > _IMPORTS_S or trying.done())
    return trying, pid


def runs(pid: int | None) -> bool:
    """Say whether there is such a process."""
    return Path(f"/proc/{pid}").exists()


def of_process(pid: int | None, name: str) -> bytes:
    """Return what the system says of a process."""
    return Path(f"/proc/{pid}/{name}").read_bytes()


@aio
async def test_what_comes_to_an_end_passes_and_leaves_the_next_child_waiting(
    tmp_path: Path,
) -> None:
    """A good policy and a bad one: the verdict is the server's own; devices do not matter."""
    async with trials(tmp_path) as tried:
        tailnet = world("alice@example.com: a, b; tag:web")
        await tried.run(found(SMALL), tailnet)
        first = tried.waiting
        await tried.run(found('{"acsl": []}'), NOBODY)
        await tried.run(found("{" * 5000), tailnet)
        second = tried.waiting
        assert first is not None
        assert second is not None
        assert first != second
        assert not runs(first)
        tried.close()
        assert tried.waiting is None
        await until(lambda: not runs(second))


@aio
async def test_a_child_sees_no_secrets_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in its environment nor open."""
    monkeypatch.setenv("MERGESCALE_MASTER_KEY", "canary")
    async with trials(tmp_path) as tried:
        tried.warm(NOBODY)
        environment = of_process(tried.waiting, "environ")
        assert b"canary" not in environment
        names = {one.partition(b"=")[0] for one in environment.split(b"\0") if one}
        assert names <= {b"PATH", b"PYTHONPATH", b"LC_ALL"}


@aio
async def test_a_child_that_is_killed_is_a_crash(tmp_path: Path) -> None:
    """As by the system when it has no memory left."""
    async with trials(tmp_path) as tried:
        trying, pid = await begun(tried, large())
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Contained) as crashed:
            await trying
        assert crashed.value.reason == "CompilerCrashed"
        await tried.run(found(SMALL), NOBODY)


@aio
async def test_a_child_that_hangs_is_ended(tmp_path: Path) -> None:
    """Even one that does not run at all."""
    async with trials(tmp_path, wall_s=8.0) as tried:
        trying, pid = await begun(tried, large())
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(Contained) as hung:
            await trying
        assert hung.value.reason == "CompilerTimeout"
        await until(lambda: not runs(pid))


@aio
async def test_a_policy_that_needs_too_long_is_ended(tmp_path: Path) -> None:
    """A small one passes within the same bounds."""
    async with trials(tmp_path, wall_s=0.4) as tried:
        assert await verdict(tried, SMALL) == ""
        assert await verdict(tried, large()) == "CompilerTimeout"


@aio
async def test_a_policy_that_needs_too_much_memory_is_ended(tmp_path: Path) -> None:
    """A small one passes within the same bounds."""
    for mib in range(48, 1024, 16):
        async with trials(tmp_path, memory_bytes=mib << 20) as tried:
            with contextlib.suppress(Transient, Contained):
                await tried.run(found(SMALL), NOBODY)
                break
    async with trials(tmp_path, memory_bytes=(mib + 24) << 20) as tried:
        assert await verdict(tried, SMALL) == ""
        assert await verdict(tried, large()) == "CompilerOutOfMemory"


@aio
async def test_a_trial_that_is_given_up_leaves_nothing_behind(tmp_path: Path) -> None:
    """As when the server stops in the middle of one."""
    async with trials(tmp_path) as tried:
        trying, pid = await begun(tried, large())
        # It does not end by itself.
        os.kill(pid, signal.SIGSTOP)
        trying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trying
        await until(lambda: not runs(pid))


async def verdict(tried: Trials, text: str) -> str:
    """Return the reason, empty for none; a machine that starts processes slowly gets more time."""
    while True:
        try:
            await tried.run(found(text), NOBODY)
        except Contained as contained:
            return contained.reason
        except Transient:
            continue
        return ""


@pytest.mark.enable_socket
@pytest.mark.timeout(180)
def test_a_poisoned_commit_stays_in_quarantine_until_another_comes(tmp_path: Path) -> None:
    """Row G22: the worker dies, the server lives, also after a restart; the last good one holds."""
    repository = PolicyRepository.from_example(tmp_path / "policy", "01-start-up")
    good, policy = repository.git("rev-parse", "HEAD"), repository.read()
    server = ServerProcess(
        tmp_path / "state", repository.folder, settings={"compiler_timeout_s": "0.1"}
    )
    cli = CommandLine(("--state-dir", str(server.state_dir)))
    with serving(server):
        eventually("the first is in force", lambda: stands(cli)[0] == good, within_s=30)
        repository.commit("poison", policy=large())
        eventually("it is refused", lambda: stands(cli)[1] == "CompilerTimeout", within_s=60)
        assert stands(cli)[0] == good
    with serving(server):
        eventually("it still is", lambda: stands(cli)[1] == "CompilerTimeout", within_s=30)
        assert len(server.events("gitops.contained")) == 1
        refused = cli("gitops", "sync")
        assert refused.code == 3
        assert len(server.events("gitops.contained")) == 1
        assert cli("gitops", "sync", "--retry").code == 3
        assert len(server.events("gitops.contained")) == 2
        better = repository.commit("better", policy=f"// mended\n{policy}")
        eventually("the next is in force", lambda: stands(cli) == (better, "Valid"), within_s=30)


@pytest.mark.enable_socket
@pytest.mark.timeout(180)
def test_a_server_that_is_killed_in_the_middle_of_a_trial_does_not_go_on_for_ever(
    tmp_path: Path,
) -> None:
    """Twice kill -9; the third start does not try, until an operator says so."""
    repository = PolicyRepository.from_example(tmp_path / "policy", "01-start-up")
    good = repository.git("rev-parse", "HEAD")
    server = ServerProcess(tmp_path / "state", repository.folder)
    cli = CommandLine(("--state-dir", str(server.state_dir)))
    with serving(server):
        eventually("the first is in force", lambda: stands(cli)[0] == good, within_s=30)
    repository.commit("poison", policy=large())
    for _ in range(2):
        with ThreadPoolExecutor(1) as pool:
            starting = pool.submit(server.start)
            try:
                eventually("it is tried", lambda: trying(server) > _IMPORTS_S, within_s=60)
            finally:
                assert server.process is not None
                server.process.kill()
                server.process.wait()
            # It died before it answered, or after.
            starting.exception()
    with serving(server):
        eventually("it is refused", lambda: stands(cli)[1] == "CompilerCrashed", within_s=30)
        assert stands(cli)[0] == good
        # It was only large: that it names nobody who is known is found out now.
        assert cli("gitops", "sync", "--retry").code == 3
        assert stands(cli) == (good, "Invalid")


def stands(cli: CommandLine) -> tuple[str, str]:
    """Return the commit in force and the reason of `Valid`."""
    status = cli("gitops", "status", "-o", "json").json
    reasons = {one["name"]: one["reason"] for one in status["conditions"]}
    return (status["current"] or {"commit": ""})["commit"], reasons["Valid"]


def trying(server: ServerProcess) -> float:
    """Return the seconds of processor time that the busiest of a server's trials has used."""
    if server.process is None:
        return 0
    found_s = [0.0]
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if (
                parent == server.process.pid
                and b"gitops.trying.tried" in (place / "cmdline").read_bytes()
            ):
                found_s.append(busy_s(int(place.name)))
    return max(found_s)
