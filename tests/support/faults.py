"""What tests of faults share: one server process, protocol-level devices, and the tools that harm.

The tools are programs of the system. Where one is missing, or may not do what it is for, the test
is skipped and says which.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from support.control_world import Json
from support.real_clients import eventually
from support.replicas import Replica
from support.server_process import PolicyRepository, ServerProcess

ALICE = "alice@example.com"
#: Runs a server whose keepalives, graces and looks for what is due are seconds apart.
IMPATIENT = (sys.executable, str(Path(__file__).parents[1] / "faults" / "impatient.py"))
#: LIMIT: what is slowed down on purpose, by a tracer or a false clock, on a busy machine.
START_S = 90.0


def one_server(
    folder: Path,
    *,
    settings: Mapping[str, str] | None = None,
    variables: Mapping[str, str] | None = None,
    within: Sequence[str] = (),
) -> tuple[Replica, PolicyRepository]:
    """Return a server that is still to be started, without a relay, and the policy it follows."""
    repository = PolicyRepository.from_example(folder / "policy", "01-start-up")
    process = ServerProcess(
        folder / "server",
        repository.folder,
        {"relay": "false", **(settings or {})},
        variables or {},
        within,
    )
    return Replica(process), repository


def start(server: Replica) -> None:
    """Start it, read its token, and wait until the people of its policy are there."""
    server.process.start(wait_s=START_S)
    server.token = (server.process.state_dir / "admin-token").read_text("ascii").strip()
    eventually("a policy is in force", lambda: server.gitops()["current"], within_s=START_S)


@contextlib.contextmanager
def started(server: Replica) -> Iterator[Replica]:
    """Run the server for the block; the block may end it and start it again."""
    try:
        start(server)
        yield server
    finally:
        server.process.stop()


def new_key(server: Replica, *, tags: tuple[str, ...] = (), **create: bool) -> str:
    """Make a pre-auth key, of alice or of tags."""
    api = server.api()
    with contextlib.closing(api.http):
        return api.auth_key(user=None if tags else ALICE, tags=tags, **create)


def devices(server: Replica) -> dict[str, Json]:
    """Return the devices by name."""
    api = server.api()
    with contextlib.closing(api.http):
        return api.devices()


async def register(server: Replica, name: str, key: str = "", **members: object) -> Json:
    """Register a device on a connection of its own; return what it was told."""
    async with server.device(name) as device:
        return await device.register(auth=key, **members)


async def staff_and_web(server: Replica) -> None:
    """Let alice's laptop and a web server join; under the example's policy they see each other."""
    laptop = await register(server, "laptop", new_key(server))
    web = await register(server, "web", new_key(server, tags=("tag:web",)))
    assert (laptop["Error"], web["Error"]) == ("", "")


def needs(*programs: str) -> None:
    """Skip the test where a program is missing."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


@functools.cache
def _works(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def needs_tracing() -> None:
    """Skip the test where processes cannot be traced and their system calls not be made to fail."""
    needs("strace")
    inject = ("-qq", "-o", "/dev/null", "-e", "inject=fsync:error=EIO")
    if not _works("strace", *inject, sys.executable, "-c", ""):
        pytest.skip("strace may not trace here")


def needs_namespaces(*kinds: str) -> None:
    """Skip the test where no namespaces of these kinds (``--mount``, ``--net``) can be made."""
    needs("unshare")
    if not _works("unshare", *kinds, "true"):
        pytest.skip("no namespaces may be made here")


@contextlib.contextmanager
def harmed(pid: int, call: str, how: str) -> Iterator[None]:
    """Have something happen to the calls of every thread of the process."""
    inject = f"inject={call}:{how}"
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
    tracer = subprocess.Popen([*command, "-p", str(pid)])
    try:
        eventually("all threads are traced", lambda: _traced(pid, tracer.pid), within_s=60)
        yield
    finally:
        tracer.terminate()
        tracer.wait()


def _traced(pid: int, tracer: int) -> bool:
    states = [status.read_text("ascii") for status in Path(f"/proc/{pid}/task").glob("*/status")]
    return all(f"TracerPid:\t{tracer}\n" in state for state in states)
