"""Whatever happens to the master key, the server starts with the right one or says what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mergescale.identity.masterkey import KEY_BYTES, MasterKey
from mergescale.kernel.errors import MergescaleError
from mergescale.kernel.keys import NodeKey
from mergescale.server.certificate import relay_certificate
from mergescale.server.master_key import MasterKeyUnusable, keep, unlock
from mergescale.server.settings import Settings
from mergescale.store.schema import migrate
from mergescale.store.server_secrets import MasterKeyWrong
from support.aio import aio
from support.clock import START, FakeClock, FakeEntropy
from support.command_line import CommandLine
from support.stores import opened

OTHER = MasterKey(FakeEntropy("another").bytes(KEY_BYTES))
SECRET = b"what clients have pinned"


@dataclass(slots=True)
class Machine:
    """A server's folder and its environment; each start is another process to the code."""

    folder: Path
    starts: int = 0
    said: str = ""

    @property
    def file(self) -> Path:
        return self.folder / "master-key"

    @property
    def key(self) -> MasterKey:
        return MasterKey.parse(self.file.read_text("ascii"))

    def settings(self) -> Settings:
        return Settings(state_dir=self.folder, master_key=self.said)  # type: ignore[arg-type]

    async def start(self) -> bytes:
        """Return the server's Noise key, as a start does; made from other entropy each time."""
        self.starts += 1
        settings = self.settings()
        migrate(settings.database)
        entropy = FakeEntropy(f"start {self.starts}")
        async with opened(settings.database) as store:
            secrets = await unlock(settings, store.database, FakeClock(), entropy)
            return await secrets.get_or_create(
                "noise", lambda: SECRET if self.starts == 1 else b"another"
            )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@aio
async def test_the_first_start_makes_a_key_and_the_next_ones_use_it(machine: Machine) -> None:
    """Its file is the owner's only, nothing is left beside it."""
    assert await machine.start() == SECRET
    made = machine.key
    assert machine.file.stat().st_mode & 0o777 == 0o600
    assert await machine.start() == SECRET
    assert machine.key == made
    assert not list(machine.folder.glob("*.new"))


def remove(machine: Machine) -> None:
    machine.file.unlink()


def cut_short(machine: Machine) -> None:
    machine.file.write_text(machine.file.read_text("ascii")[:40], "ascii")


def empty(machine: Machine) -> None:
    machine.file.write_text("", "ascii")


def change_a_digit(machine: Machine) -> None:
    text = machine.file.read_text("ascii")
    machine.file.write_text(text[:20] + ("0" if text[20] != "0" else "1") + text[21:], "ascii")


def replace(machine: Machine) -> None:
    machine.file.write_text(OTHER.text, "ascii")


def open_to_all(machine: Machine) -> None:
    machine.file.chmod(0o644)


def writable_by_group(machine: Machine) -> None:
    machine.file.chmod(0o620)


def make_a_folder(machine: Machine) -> None:
    machine.file.unlink()
    machine.file.mkdir()


def say_another(machine: Machine) -> None:
    machine.said = OTHER.text


def say_another_only(machine: Machine) -> None:
    machine.file.unlink()
    machine.said = OTHER.text


def say_half(machine: Machine) -> None:
    machine.said = machine.key.text[:50]


FAULTS: list[tuple[Callable[[Machine], None], type[MergescaleError], str]] = [
    (remove, MasterKeyUnusable, "and there is no key"),
    (cut_short, MasterKeyUnusable, "holds no usable master key: it is cut short"),
    (empty, MasterKeyUnusable, "holds no usable master key: it is cut short"),
    (change_a_digit, MasterKeyUnusable, "its checksum is wrong"),
    (replace, MasterKeyWrong, "are sealed under the master key"),
    (open_to_all, MasterKeyUnusable, "is open to others (mode 0644)"),
    (writable_by_group, MasterKeyUnusable, "is open to others (mode 0620)"),
    (make_a_folder, MasterKeyUnusable, "cannot be read: Is a directory"),
    (say_another, MasterKeyUnusable, "holds another one"),
    (say_another_only, MasterKeyWrong, "are sealed under the master key"),
    (say_half, MasterKeyUnusable, "MERGESCALE_MASTER_KEY holds no usable master key"),
]


@pytest.mark.parametrize(("fault", "error", "words"), FAULTS)
@aio
async def test_a_master_key_that_cannot_be_right_stops_the_start(
    machine: Machine,
    fault: Callable[[Machine], None],
    error: type[MergescaleError],
    words: str,
) -> None:
    """It stops every time, says why and what to do, and never makes a key or shows one.

    With the key put back, the server is the same as before.
    """
    await machine.start()
    key = machine.key
    fault(machine)
    there = machine.file.exists()
    for _ in range(2):
        with pytest.raises(error) as stopped:
            await machine.start()
        assert words in stopped.value.message
        assert stopped.value.help
        assert not any(
            k.text[13:40] in stopped.value.message + stopped.value.help for k in (key, OTHER)
        )
    assert machine.file.exists() is there

    machine.said = key.text
    if machine.file.is_dir():
        machine.file.rmdir()
    else:
        machine.file.unlink(missing_ok=True)
    assert await machine.start() == SECRET


@aio
async def test_the_environment_alone_is_enough(machine: Machine) -> None:
    """No file is written beside it; the same key in a file does no harm."""
    machine.said = OTHER.text
    assert await machine.start() == SECRET
    assert not machine.file.exists()
    keep(machine.file, OTHER)
    assert await machine.start() == SECRET
    machine.said = ""
    assert await machine.start() == SECRET


@aio
async def test_a_group_may_read_the_key(machine: Machine) -> None:
    """Mounted secrets belong to a group on many platforms."""
    await machine.start()
    machine.file.chmod(0o640)
    assert await machine.start() == SECRET


@aio
async def test_a_start_killed_before_it_sealed_goes_on_with_its_key(machine: Machine) -> None:
    """The file is there before anything is sealed, so the next start takes it."""
    keep(machine.file, OTHER)
    (machine.folder / "master-key.new").write_text("half a k", "ascii")
    assert await machine.start() == SECRET
    assert machine.key == OTHER


def test_keeping_never_replaces_a_key(machine: Machine) -> None:
    """A key that somebody put there in the meantime stays."""
    keep(machine.file, OTHER)
    with pytest.raises(MasterKeyUnusable, match="File exists"):
        keep(machine.file, MasterKey(bytes(KEY_BYTES)))
    assert machine.key == OTHER


def test_a_lost_key_stops_serve_with_two_lines(machine: Machine) -> None:
    """Exit code 1, an error and what to do; the state directory has no new key."""

    @aio
    async def began() -> None:
        await machine.start()

    began()
    key = machine.key
    machine.file.unlink()
    ended = CommandLine(("--state-dir", str(machine.folder)))("serve", "--listen", "127.0.0.1:1")
    assert ended.code == 1
    why, what = ended.err.splitlines()
    assert why == (
        f"error: the server's secrets are sealed under the master key {key.fingerprint}, and there"
        f' is no key: no file "{machine.file}", no MERGESCALE_MASTER_KEY'
    )
    assert what.startswith("help: put the key back from where it is kept; every server process")
    assert not machine.file.exists()


def test_the_relays_own_key_is_encrypted_too(tmp_path: Path) -> None:
    """One of an earlier version, and one of another master key, is made anew; ours is kept."""
    path = tmp_path / "relay.pem"

    def pin(passphrase: bytes) -> str:
        return relay_certificate(
            path,
            host="127.0.0.1",
            relay_key=NodeKey(b"r" * 32),
            passphrase=passphrase,
            now=START,
        ).pin

    first = pin(b"one")
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert pin(b"one") == first
    second = pin(b"two")
    assert second != first
    assert pin(b"two") == second
