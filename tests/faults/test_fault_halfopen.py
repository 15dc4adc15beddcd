"""A peer vanishes without a FIN: its network namespace is cut off from the server's (R15).

The server's keepalives and TCP's deadline are seconds here, in the proportion that they have.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mergescale.fanout import hub
from mergescale.server.listeners import UNACKNOWLEDGED_S
from support.faults import IMPATIENT, devices, needs, needs_namespaces, new_key, one_server, started
from support.machines import CAPABILITY_VERSION
from support.real_clients import eventually, free_port
from support.replicas import Replica

pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(300)]

HERE = Path(__file__).parent
#: The client at the other end imports what these tests import.
WITH_SUPPORT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
CLIENTS = 3


@contextlib.contextmanager
def cable() -> Iterator[tuple[str, str, str]]:
    """Lay a cable to a new namespace; give its name, our end of it and our address on it."""
    space, ours = f"far{os.getpid()}", f"v{os.getpid()}"
    third = os.getpid() % 250
    address, other = f"10.213.{third}.1", f"10.213.{third}.2"
    try:
        for command in (
            f"netns add {space}",
            f"link add {ours} type veth peer name {ours}b netns {space}",
            f"addr add {address}/30 dev {ours}",
            f"link set {ours} up",
            f"-n {space} addr add {other}/30 dev {ours}b",
            f"-n {space} link set {ours}b up",
        ):
            done = subprocess.run(["ip", *command.split()], capture_output=True, check=False)
            if done.returncode:
                pytest.skip(f"no network namespaces here: ip {command}")
        yield space, ours, address
    finally:
        subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)


def cut(ours: str, space: str) -> None:
    """Let both ends send to nobody: no FIN, no reset, no unreachable."""
    for at, end, neighbour in (((), ours, "2"), (("-n", space), f"{ours}b", "1")):
        address = f"10.213.{os.getpid() % 250}.{neighbour}"
        how = ["lladdr", "02:00:00:00:00:99", "dev", end, "nud", "permanent"]
        subprocess.run(["ip", *at, "neigh", "replace", address, *how], check=True)


def held() -> int:
    """Count the connections from the other end of the cable that the server has not let go."""
    far = f"02{os.getpid() % 250:02X}D50A:"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
    return sum(1 for _, _, remote, state, *_ in lines if remote.startswith(far) and state == "01")


def online(server: Replica) -> list[str]:
    return sorted(n for n, device in devices(server).items() if device["connectedToControl"])


def test_a_dead_peer_is_noticed_within_two_keepalives() -> None:
    """One of silence until the next is sent, and TCP's deadline for its acknowledgement."""
    longest_s = hub.KEEPALIVE_S + hub._JITTER_S
    assert longest_s + UNACKNOWLEDGED_S <= 2 * longest_s + 1


def test_peers_that_vanish_go_offline_and_leave_nothing(tmp_path: Path) -> None:
    """Their sockets are closed, their nodes are offline; nobody else notices."""
    needs("ip")
    needs_namespaces("--net")
    port = free_port()
    server, _ = one_server(tmp_path, settings={"listen": f"0.0.0.0:{port}"}, within=IMPATIENT)
    server.process.port = port
    with cable() as (space, ours, address), started(server), contextlib.ExitStack() as clients:
        key = new_key(server, reusable=True)
        told = httpx.get(f"{server.process.url}/key?v={CAPABILITY_VERSION}").json()["publicKey"]
        names = [f"far-{number}" for number in range(CLIENTS)]
        for name in names:
            where = (address, str(port), told, name, key)
            command = ["ip", "netns", "exec", space, sys.executable, str(HERE / "faraway.py")]
            client = clients.enter_context(
                subprocess.Popen([*command, *where], stdout=subprocess.PIPE, env=WITH_SUPPORT)
            )
            clients.callback(client.kill)
            assert client.stdout is not None
            assert client.stdout.readline() == b"up\n"
        eventually("they are online", lambda: online(server) == names)
        assert held() == CLIENTS
        cut(ours, space)
        eventually("their sockets are closed", lambda: held() == 0, within_s=30)
        eventually("they are offline", lambda: online(server) == [], within_s=30)
