"""What the child process may see and do: no secrets, no options, no end without a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mergescale.gitops.errors import Transient
from mergescale.gitops.git.child import Fetcher
from mergescale.gitops.git.limits import Limits
from mergescale.gitops.git.messages import Found, Unchanged
from mergescale.gitops.git.source import Source
from support.aio import aio, until
from support.repositories import Repository

CANARY = "hunter2-canary"
GOOD = {"policy.hujson": '{"acls": []}'}


@contextlib.asynccontextmanager
async def fetching(source: Source, store: Path) -> AsyncIterator[Fetcher]:
    fetcher = Fetcher(source, store)
    try:
        yield fetcher
    finally:
        await fetcher.close()


def spy(folder: Path, monkeypatch: pytest.MonkeyPatch, *, then: str = 'exec "$real" "$@"') -> Path:
    """Put a `git` first on PATH that writes down what it is given; return where."""
    real, seen = shutil.which("git"), folder / "seen"
    program = folder / "bin" / "git"
    program.parent.mkdir(parents=True)
    program.write_text(
        f'#!/bin/sh\nreal={real}\n{{ env; printf "argument <%s>\\n" "$@"; }} >>{seen}\n{then}\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return seen


@aio
async def _look_around(source: Source, store: Path) -> None:
    async with fetching(source, store) as fetcher:
        found = await fetcher.look(known="", applied="")
        assert isinstance(found, Found)


def test_git_sees_nothing_of_the_servers_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passwords, agents, proxies and git settings of the server stay with the server."""
    repository = Repository(tmp_path / "repo")
    repository.commit(GOOD)
    for name in (
        "MERGESCALE_DATABASE_URL", "AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK", "GIT_SSH_COMMAND",
        "GIT_CONFIG_PARAMETERS", "GIT_DIR", "GIT_ASKPASS", "GIT_PROXY_COMMAND", "LD_LIBRARY_PATH",
        "https_proxy", "PYTHONSTARTUP",
    ):  # fmt: skip
        monkeypatch.setenv(name, f"{CANARY}-{name}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    seen = spy(tmp_path / "spy", monkeypatch)
    _look_around(Source.parse(str(repository.path)), tmp_path / "state" / "policy.git")
    text = seen.read_text()
    assert CANARY not in text
    assert str(tmp_path / "home") not in text
    environment = {line.partition("=")[0]: line.partition("=")[2] for line in text.splitlines()}
    assert {name: environment[name] for name in sorted(environment) if name.startswith("GIT_")} == {
        "GIT_ALLOC_LIMIT": str(Limits().object_bytes),
        "GIT_ALLOW_PROTOCOL": "file",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(tmp_path / "state" / "policy.home" / "gitconfig"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_PYTHON_REFRESH": "quiet",
        "GIT_SSH_COMMAND": environment["GIT_SSH_COMMAND"],
        "GIT_SSH_VARIANT": "ssh",
        "GIT_TERMINAL_PROMPT": "0",
    }


def test_what_is_configured_reaches_git_as_literal_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spaces, quotes, variables and shell characters of a path are just characters."""
    odd = tmp_path / "a b;$HOME `id` 'q' \"d\" *"
    Repository(odd).commit(GOOD)
    seen = spy(tmp_path / "spy", monkeypatch)
    _look_around(Source.parse(str(odd)), tmp_path / "state" / "policy.git")
    lines = seen.read_text().splitlines()
    assert f"argument <{odd}>" in lines
    fetch = lines[lines.index("argument <fetch>") :]
    options = fetch.index("argument <--end-of-options>")
    assert fetch[options + 1 : options + 3] == [
        f"argument <{odd}>",
        "argument <+refs/heads/main:refs/mergescale/tip>",
    ]
    assert not (tmp_path / "state" / "policy.git" / "hooks").exists()


def test_hooks_filters_and_attributes_of_a_repository_are_inert(tmp_path: Path) -> None:
    """Nothing of a hostile repository runs: there is no checkout and there are no hooks."""
    repository = Repository(tmp_path / "repo")
    trap = tmp_path / "sprung"
    repository.commit(
        {
            **GOOD,
            ".gitattributes": "*.hujson filter=trap diff=trap\n",
            ".gitmodules": f'[submodule "x"]\n\tpath = x\n\turl = ext::touch {trap}\n',
        }
    )
    repository.gitlink("x")
    hook = f"#!/bin/sh\ntouch {trap}\n"
    hooks = repository.path / "hooks"
    hooks.mkdir()
    for name in ("post-checkout", "reference-transaction", "pre-receive", "fsmonitor-watchman"):
        (hooks / name).write_text(hook)
        (hooks / name).chmod(0o700)
    for key in ("filter.trap.smudge", "core.fsmonitor", "uploadpack.packObjectsHook"):
        repository.git("config", key, f"touch {trap}")
    store = tmp_path / "state" / "policy.git"
    _look_around(Source.parse(str(repository.path)), store)
    assert not trap.exists()
    assert not list(store.rglob("*.hujson"))


@aio
async def test_a_fetch_that_hangs_is_killed_with_all_its_children(tmp_path: Path) -> None:
    """The deadline is wall clock, and no process of the child's session survives it."""
    repository = Repository(tmp_path / "repo")
    repository.commit(GOOD)
    with pytest.MonkeyPatch.context() as patch:
        pids = tmp_path / "pids"
        spy(tmp_path / "spy", patch, then=f"echo $$ >>{pids}; sleep 600 & echo $! >>{pids}; wait")
        source = Source.parse(str(repository.path), timeout_s=3)
        async with fetching(source, tmp_path / "state" / "policy.git") as fetcher:
            await fetcher.warm()
            with pytest.raises(Transient) as failed:
                await fetcher.look(known="", applied="")
            assert failed.value.reason == "Timeout"
    hung = [int(line) for line in pids.read_text().split()]
    assert len(hung) == 2
    await until(lambda: not any(_runs(pid) for pid in hung))


@aio
async def test_a_worker_that_died_is_replaced(tmp_path: Path) -> None:
    """One that waits and is killed costs nothing but the start of another."""
    repository = Repository(tmp_path / "repo")
    commit = repository.commit(GOOD)
    source = Source.parse(str(repository.path))
    async with fetching(source, tmp_path / "state" / "policy.git") as fetcher:
        # The first look asks who signed, whatever is known.
        assert isinstance(await fetcher.look(known=commit, applied=""), Found)
        await fetcher.warm()
        waiting = fetcher._waiting
        assert waiting is not None
        os.killpg(waiting.pid, signal.SIGKILL)
        waiting.wait()
        assert await fetcher.look(known=commit, applied="") == Unchanged(commit)


@aio
async def test_closing_leaves_no_child(tmp_path: Path) -> None:
    """A worker that was started ahead ends with its owner, and looking goes on to work."""
    repository = Repository(tmp_path / "repo")
    repository.commit(GOOD)
    fetcher = Fetcher(Source.parse(str(repository.path)), tmp_path / "state" / "policy.git")
    await fetcher.warm()
    waiting = fetcher._waiting
    assert waiting is not None
    await fetcher.close()
    assert waiting.returncode is not None
    assert not _runs(waiting.pid)


@pytest.mark.parametrize("turns", range(6))
def test_an_interrupted_server_does_not_wait_for_a_child(tmp_path: Path, turns: int) -> None:
    """Wherever an interrupt hits, all tasks are cancelled at once, and the children end."""
    fetcher = Fetcher(Source.parse("/srv/git"), tmp_path / "state" / "policy.git")

    async def follow() -> None:
        try:
            await fetcher.warm()
            await fetcher.look(known="", applied="")
        finally:
            await fetcher.close()

    async def interrupted() -> None:
        following = asyncio.create_task(follow())
        for _ in range(turns):
            await asyncio.sleep(0)
        assert not following.done()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(interrupted())
    assert not list(_workers_in(tmp_path / "state"))


@aio
async def test_a_worker_without_a_server_ends_by_itself(tmp_path: Path) -> None:
    """When the server is killed its pipes close, and the waiting child reads the end of them."""
    fetcher = Fetcher(Source.parse("/srv/git"), tmp_path / "state" / "policy.git")
    await fetcher.warm()
    waiting = fetcher._waiting
    assert waiting is not None
    assert waiting.stdin is not None
    waiting.stdin.close()
    assert waiting.wait(timeout=10) == 0
    await fetcher.close()


def _runs(pid: int) -> bool:
    """Say whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _workers_in(folder: Path) -> Iterator[int]:
    """Yield the processes that work in a folder."""
    for place in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if place.readlink() == folder:
                yield int(place.parent.name)
