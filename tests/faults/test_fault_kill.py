"""Kill -9 of the real server inside the system calls that make a change durable (strace injects).

``tests/store`` kills around each statement of a commit; here it happens below SQLite: between the
pages that it writes, and before it syncs them.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from mergescale.domain.snapshot import Snapshot
from mergescale.identity.secrets import parse
from mergescale.kernel.ids import AuthKeyId, LoginId, Revision
from support.aio import run
from support.faults import (
    ALICE,
    devices,
    harmed,
    needs_tracing,
    new_key,
    one_server,
    register,
    start,
    started,
)
from support.real_clients import eventually
from support.replicas import Replica
from support.server_process import PolicyRepository
from support.stores import after, content, loaded, opened

pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(300)]

#: What a client sees when the server dies before it answers.
GONE = (OSError, EOFError, httpx.HTTPError, TimeoutError, asyncio.IncompleteReadError)


@dataclass(slots=True)
class Site:
    """A server, its repository, and what clients were told so far."""

    server: Replica
    repository: PolicyRepository
    number: int = 0
    key: str = ""
    login: str = ""
    commit: str = ""

    @property
    def name(self) -> str:
        """The device that the operation is about."""
        return f"device-{self.number}"

    def snapshot(self) -> Snapshot:
        """Return what is in the database, of which nothing may be half there."""
        database = self.server.process.state_dir / "mergescale.db"
        with contextlib.closing(sqlite3.connect(database)) as raw:
            assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
        found: list[Snapshot] = []

        async def load() -> None:
            async with opened(f"sqlite+aiosqlite:///{database}") as store:
                found.append(await loaded(store.journal))
                whole = await store.journal.since(found[0].tailnet, Revision(0))
                told = after(Snapshot(found[0].tailnet), whole)
                assert content(told) == content(found[0])

        run(load(), deadline_s=60)
        [snapshot] = found
        nodes = snapshot.nodes.values()
        assert len(snapshot.names) == len(snapshot.by_node_key) == len(nodes)
        assert len(snapshot.addresses) == 2 * len(nodes)
        assert all(node.id < snapshot.counters.next_node for node in nodes)
        return snapshot

    def node_id(self) -> str:
        snapshot = self.snapshot()
        return snapshot.nodes[snapshot.names[self.name]].stable_id

    def post(self, path: str, body: object = None) -> httpx.Response:
        api = self.server.api()
        with contextlib.closing(api.http):
            return api.http.post(path, json=body)


def registers(site: Site) -> None:
    """Join by a one-shot key."""
    run(_registers(site), deadline_s=60)


async def _registers(site: Site) -> None:
    told = await register(site.server, site.name, site.key)
    assert told["Error"] == ""


def has_registered(site: Site, snapshot: Snapshot) -> bool:
    """The node is there and the key is spent, or neither is."""
    key = snapshot.auth_keys[AuthKeyId(parse(site.key).id)]
    joined = site.name in snapshot.names
    assert key.uses == int(joined)
    return joined


def approves(site: Site) -> None:
    """Approve the login of the device."""
    assert site.post(f"/logins/{site.login}/approve", {"user": ALICE}).status_code == 200


def has_approved(site: Site, snapshot: Snapshot) -> bool:
    """The node is there and the login is decided, or neither is."""
    joined = site.name in snapshot.names
    assert (snapshot.logins[LoginId(site.login)].state != "pending") is joined
    return joined


def deletes(site: Site) -> None:
    """Delete the device."""
    api = site.server.api()
    with contextlib.closing(api.http):
        assert api.http.delete(f"/device/{site.node_id()}").status_code == 200


def has_deleted(site: Site, snapshot: Snapshot) -> bool:
    """The node and its presence are gone, or the node is there."""
    assert set(snapshot.presence) <= set(snapshot.nodes)
    return site.name not in snapshot.names


def applies(site: Site) -> None:
    """Have a commit put in force."""
    site.commit = site.repository.commit(site.name)
    eventually("it is in force", lambda: _in_force(site) == site.commit, within_s=60)


def has_applied(site: Site, snapshot: Snapshot) -> bool:
    """The commit is in force with its texts, or the one before."""
    assert snapshot.deployment is not None
    assert snapshot.deployment.files["policy.hujson"] == site.repository.read()
    return snapshot.deployment.commit == site.commit


def _in_force(site: Site) -> str:
    return str(site.server.gitops()["current"]["commit"])


@dataclass(frozen=True, slots=True)
class Kill:
    """An operation that is killed as it enters a system call for the `nth` time."""

    operation: Callable[[Site], None]
    done: Callable[[Site, Snapshot], bool]
    call: str
    nth: int


#: ``test_fault_syncs.py`` is at each call; these show that a whole server comes back the same way.
KILLS = [
    Kill(registers, has_registered, "pwrite64", 14),
    Kill(approves, has_approved, "fdatasync", 1),
    Kill(deletes, has_deleted, "pwrite64", 6),
    # The first is of the note that the commit is about to be tried.
    Kill(applies, has_applied, "fdatasync", 2),
]


def prepare(site: Site, kill: Kill) -> None:
    """Do what comes before the operation: a key, a login, a device."""
    site.number += 1
    if kill.operation in {registers, deletes}:
        site.key = new_key(site.server)
    if kill.operation is deletes:
        registers(site)
    if kill.operation is approves:
        run(_asks(site), deadline_s=60)


async def _asks(site: Site) -> None:
    told = await register(site.server, site.name)
    site.login = told["AuthURL"].rpartition("/")[2]


def strike(site: Site, kill: Kill) -> None:
    """Carry the operation out under the tracer; the server must have died of it."""
    process = site.server.process.process
    assert process is not None
    with harmed(process.pid, kill.call, f"signal=KILL:when={kill.nth}"):
        with contextlib.suppress(*GONE, AssertionError):
            kill.operation(site)
        assert process.wait(60) == -9, "the server did not reach the call"


def test_kill_9_leaves_before_or_after(tmp_path: Path) -> None:
    """Whichever write or sync it dies in: one or the other, whole, and all that was told before.

    The same data through four deaths; each time the next server finishes what was begun. The last
    one meets a disk that fails to sync: it says so, and needs no other start.
    """
    needs_tracing()
    # Without heartbeats of its lease in between, the calls are those of the operation.
    server, repository = one_server(tmp_path, settings={"lease_s": "3600"})
    outcomes: dict[str, set[bool]] = {}
    with started(server):
        site = Site(server, repository)
        for kill in KILLS:
            prepare(site, kill)
            before = site.snapshot()
            strike(site, kill)
            left = site.snapshot()
            done = kill.done(site, left)
            outcomes.setdefault(kill.call, set()).add(done)
            noted = kill.operation is applies
            assert left.revision == before.revision + noted + done
            if not done:
                assert content(left) == content(before)
            start(server)
            if kill.operation is applies:
                eventually("it is in force", lambda: _in_force(site) == site.commit, within_s=60)
            elif not done:
                kill.operation(site)
            assert kill.done(site, site.snapshot())
        survives_an_error(site)
    # A page that was not written undoes the commit; what only was not synced yet is there, as
    # long as the machine itself lives on.
    assert outcomes == {"pwrite64": {False}, "fdatasync": {True}}


def survives_an_error(site: Site) -> None:
    """Have a registration's sync fail: it is refused with a text, and goes through afterwards."""
    process = site.server.process.process
    assert process is not None
    site.number += 1
    site.key = new_key(site.server)
    before = site.snapshot()

    async def refused() -> None:
        async with site.server.device(site.name) as device:
            answer = await device.post("/machine/register", device.register_request(auth=site.key))
            assert (answer.status, bool(answer.body)) == (503, True)

    with harmed(process.pid, "fdatasync", "error=EIO"):
        run(refused(), deadline_s=60)
    assert content(site.snapshot()) == content(before)
    assert site.name not in devices(site.server)
    registers(site)
    assert has_registered(site, site.snapshot())
