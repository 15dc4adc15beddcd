"""A server that is lost comes back elsewhere out of its backup, and its clients notice nothing."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mergescale.identity.masterkey import MasterKey
from support.aio import aio
from support.command_line import CommandLine
from support.replicas import Replica
from support.server_process import PolicyRepository, ServerProcess

# Several processes start one after another.
pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(120)]

ALICE = "alice@example.com"
_KEPT = ("id", "nodeId", "name", "addresses", "user", "tags", "nodeKey", "created")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Replica]:
    """A server, with the policy that lets staff reach the web."""
    repository = PolicyRepository.from_example(tmp_path / "policy", "01-start-up")
    running = Replica(ServerProcess(tmp_path / "first", repository.folder))
    running.process.start()
    running.token = (running.process.state_dir / "admin-token").read_text("ascii").strip()
    try:
        yield running
    finally:
        running.process.stop(signal.SIGKILL)


def moved(server: Replica, folder: Path) -> Replica:
    """Return another machine at the same address, where nothing runs yet."""
    old = server.process
    return Replica(
        ServerProcess(folder, old.repository, port=old.port, relay_port=old.relay_port),
        server.token,
    )


def devices(server: Replica) -> dict[str, dict[str, Any]]:
    """Return what of each device must never change."""
    api = server.api()
    found = {n: {k: d[k] for k in _KEPT} for n, d in api.devices().items()}
    api.http.close()
    return found


def public_key(server: Replica) -> str:
    """Return what all clients have pinned."""
    told: str = httpx.get(f"{server.process.url}/key?v=130", trust_env=False).json()["publicKey"]
    return told


def local(folder: Path, **environment: str) -> CommandLine:
    """Return somebody on the machine with this state directory."""
    return CommandLine(("--state-dir", str(folder)), environment)


async def _backed_up_under_load(server: Replica, file: Path) -> list[str]:
    """Back up while devices join; return the names of those that had joined before it."""
    api = server.api()
    key = await asyncio.to_thread(api.auth_key, user=ALICE, reusable=True)
    tagged = await asyncio.to_thread(api.auth_key, tags=("tag:web",))
    api.http.close()

    async def join(name: str, auth: str) -> None:
        async with server.device(name) as device:
            await device.join(auth)

    await asyncio.gather(join("laptop", key), join("web", tagged))
    stop = asyncio.Event()

    async def load() -> int:
        count = 0
        while not stop.is_set():
            count += 1
            await join(f"guest{count}", key)
        return count

    busy = asyncio.ensure_future(load())
    arguments = ("backup", str(file), "-o", "json")
    done = await asyncio.to_thread(server.process.cli, *arguments)
    stop.set()
    assert await busy > 0
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tailnets"][0]["nodes"] >= 2
    return ["laptop", "web"]


@aio
async def _same_clients_come_back(server: Replica, tmp_path: Path) -> None:
    file, second = tmp_path / "server.backup", tmp_path / "second"
    names = await _backed_up_under_load(server, file)
    before, pinned = devices(server), public_key(server)
    server.process.stop(signal.SIGKILL)

    ended = local(second)("restore", file)
    assert ended.code == 0, ended.err
    assert "in place before the start" in ended.err
    shutil.copy2(server.process.state_dir / "master-key", second / "master-key")
    revived = moved(server, second)
    await asyncio.to_thread(revived.process.start)
    try:
        assert public_key(revived) == pinned
        after = devices(revived)
        assert {name: after[name] for name in names} == {name: before[name] for name in names}
        # Nobody registers: the stream opens with the keys of before.
        async with revived.connected("laptop") as laptop, revived.connected("web") as web:
            await laptop.sees("web")
            await web.sees("laptop")
            assert laptop.map.node is not None
            assert laptop.map.node["Addresses"][0].split("/")[0] in before["laptop"]["addresses"]
            assert laptop.map.node["StableID"] == before["laptop"]["nodeId"]
            # Whoever comes now has an id and addresses that nobody has had.
            api = revived.api()
            key = await asyncio.to_thread(api.auth_key, user=ALICE)
            api.http.close()
            async with revived.device("newcomer") as device:
                await device.join(key)
        newest = devices(revived)["newcomer"]
        assert not set(newest["addresses"]) & {a for d in before.values() for a in d["addresses"]}
        assert int(newest["id"]) > 65_536
    finally:
        revived.process.stop(signal.SIGKILL)


def test_the_same_clients_come_back_to_a_restored_server(server: Replica, tmp_path: Path) -> None:
    """Backed up while devices join, killed, restored on another machine at the same address.

    The server has its key, devices have their ids, keys and addresses, and nobody logs in again.
    """
    _same_clients_come_back(server, tmp_path)


def test_a_running_server_is_not_restored_over(server: Replica, tmp_path: Path) -> None:
    """Forced or not; a backup of it works, is the user's only and replaces no file."""
    folder, file = server.process.state_dir, tmp_path / "one"
    there = local(folder)
    assert there("backup", file).code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    again = there("backup", file)
    assert (again.code, again.err.splitlines()[0]) == (
        1,
        f'error: the backup "{file}" could not be written: File exists',
    )
    for force in ((), ("--force",)):
        ended = there("restore", file, *force)
        assert ended.code == 1
        assert ended.err.startswith("error: a server runs and answers at")
    assert list(tmp_path.glob("*.new")) == []


def test_a_backup_holds_no_secret_unless_asked(server: Replica, tmp_path: Path) -> None:
    """The master key is in it with its option only, and is put in place by the restore then."""
    folder = server.process.state_dir
    key = MasterKey.parse((folder / "master-key").read_text("ascii"))
    without, with_key = tmp_path / "without", tmp_path / "with"
    told = local(folder)("backup", without)
    assert f"only with the master key {key.fingerprint}" in told.err
    told = local(folder)("backup", with_key, "--with-master-key")
    assert "whoever has the file can be this server" in told.err
    server.process.stop()

    bare, whole, taken = tmp_path / "bare", tmp_path / "whole", tmp_path / "taken"
    answer = local(bare)("restore", without, "-o", "json").json
    assert answer["missingMasterKey"] == key.fingerprint
    assert not (bare / "master-key").exists()
    stopped = local(bare)("serve", "--listen", "127.0.0.1:1")
    assert (stopped.code, key.fingerprint in stopped.err) == (1, True)

    assert local(whole)("restore", with_key, "-o", "json").json["missingMasterKey"] == ""
    assert (whole / "master-key").read_text("ascii").strip() == key.text
    assert (whole / "master-key").stat().st_mode & 0o777 == 0o600

    taken.mkdir()
    other = MasterKey(bytes(32))
    (taken / "master-key").write_text(other.text, "ascii")
    (taken / "master-key").chmod(0o600)
    refused = local(taken)("restore", with_key, "--force")
    assert refused.code == 1
    assert f"the one given is {other.fingerprint}" in refused.err
    assert not (taken / "mergescale.db").exists()


def test_what_force_replaces_is_kept(server: Replica, tmp_path: Path) -> None:
    """A restore by mistake can be taken back."""
    folder = server.process.state_dir
    there, file = local(folder), tmp_path / "one"
    assert there("backup", file).code == 0
    assert there("users", "create", "late@example.com").code == 0
    server.process.stop()
    refused = there("restore", file)
    assert (refused.code, "say --force to replace it" in refused.err) == (1, True)
    replaced = there("restore", file, "--force", "-o", "json").json["replaced"]
    assert "late@example.com" not in logins(folder)
    assert there("restore", replaced, "--force").code == 0
    assert "late@example.com" in logins(folder)


def logins(folder: Path) -> set[str]:
    """Return who is in the database."""
    with sqlite3.connect(folder / "mergescale.db") as database:
        found = {login for (login,) in database.execute("SELECT login FROM users")}
    database.close()
    return found
