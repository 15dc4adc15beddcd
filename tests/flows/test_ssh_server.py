"""An SSH login that needs a check at a real server: its policy, its page, its command line.

The destination is a protocol-level device: the real clients of the suite are tsnet, which offers no
SSH server.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.aio import aio
from support.command_line import CommandLine
from support.control_world import Device
from support.plain import PLAIN
from support.replicas import Replica
from support.server_process import PolicyRepository, ServerProcess

# The server is started twice.
pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(120)]

CAROL = "carol@example.com"
SSH = """
  "ssh": [
    {"action": "check", "src": ["group:ops"], "dst": ["tag:web"], "users": ["ubuntu"]},
  ],
  "sshTests": [
    {"src": "carol@example.com", "dst": ["tag:web"], "check": ["ubuntu"], "deny": ["root"]},
    {"src": "alice@example.com", "dst": ["tag:web"], "deny": ["ubuntu"]},
  ],
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Replica]:
    """A server whose policy asks for a check."""
    repository = PolicyRepository.from_example(tmp_path / "policy", "01-start-up")
    repository.commit("ssh", policy=repository.read().replace("{", "{" + SSH, 1))
    running = Replica(ServerProcess(tmp_path / "state", repository.folder))
    running.process.start()
    running.token = (running.process.state_dir / "admin-token").read_text("ascii").strip()
    try:
        yield running
    finally:
        running.process.stop(signal.SIGKILL)


async def joined(server: Replica, name: str, **key: Any) -> int:
    """Let a device in; return its id."""
    api = server.api()
    async with server.device(name) as device:
        await device.join(await asyncio.to_thread(api.auth_key, **key))
        async with device.polling() as stream:
            api.http.close()
            node: int = (await stream.next())["Node"]["ID"]
            return node


async def asked(web: Device, url: str) -> dict[str, Any]:
    answer = await web.noise.get(url)
    assert answer.status == 200, answer.body
    found: dict[str, Any] = json.loads(answer.body)
    return found


def expanded(template: str, source: int, target: int) -> str:
    """Return the path of a template as a client asks for it."""
    path = "/" + template.split("/", 3)[3]
    for word, value in (
        ("$SRC_NODE_ID", str(source)),
        ("$DST_NODE_ID", str(target)),
        ("$LOCAL_USER", "ubuntu"),
    ):
        path = path.replace(word, value)
    return path


def test_an_approval_outlives_the_server(server: Replica) -> None:
    """The policy names the URL, its page the command; after a kill the approval still counts."""
    _from_the_first_attempt_to_a_restart(server)


@aio
async def _from_the_first_attempt_to_a_restart(server: Replica) -> None:
    cli = CommandLine(("--state-dir", str(server.process.state_dir)))
    laptop = await joined(server, "laptop", user=CAROL)
    target = await joined(server, "web", tags=("tag:web",))
    async with server.device("web") as web:
        async with web.polling() as stream:
            (rule,) = (await stream.next())["SSHPolicy"]["rules"]
        assert rule["sshUsers"] == {"root": "", "ubuntu": "ubuntu"}
        template = rule["action"]["holdAndDelegate"]
        assert template.startswith(server.process.url)
        first = await asked(web, expanded(template, laptop, target))
        page = first["message"].split()[-1]
        async with httpx.AsyncClient(verify=PLAIN, trust_env=False) as http:
            shown = (await http.get(page)).text
        check = page.rpartition("/")[2]
        assert f"mergescale ssh approve {check}" in shown
        waiting = expanded(first["holdAndDelegate"], laptop, target)
        held = asyncio.create_task(asked(web, waiting))
        listed = (await asyncio.to_thread(cli, "ssh", "list", "-o", "json")).json
        assert [(one["id"], one["user"], one["source"], one["target"]) for one in listed] == [
            (check, CAROL, "laptop", "web")
        ]
        done = await asyncio.to_thread(cli, "ssh", "approve", page)
        assert done.out == f"{CAROL} may log in as ubuntu at web\n"
        assert (await held)["accept"] is True
        again = await asyncio.to_thread(cli, "ssh", "reject", check)
        assert again.err == "error: this check was approved already\n"
    await asyncio.to_thread(server.process.stop, signal.SIGKILL)
    await asyncio.to_thread(server.process.start)
    async with server.device("web") as web:
        assert (await asked(web, expanded(template, laptop, target)))["accept"] is True
    assert (await asyncio.to_thread(cli, "ssh", "list")).out.split()[0] == "ID"
