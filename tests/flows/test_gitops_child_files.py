"""The pipes of the process that runs git, on the loop that the server has."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import uvloop

from mergescale.gitops.errors import Transient
from mergescale.gitops.git.child import Fetcher
from mergescale.gitops.git.source import Source
from support.repositories import Repository


class Opening(ThreadPoolExecutor):
    """Opens a few files with each piece of work that it is given, as other threads might.

    Attributes:
        files: their numbers.
    """

    def __init__(self) -> None:
        super().__init__(1)
        self.files: list[int] = []

    def submit(self, work: Callable[..., Any], /, *args: Any, **words: Any) -> Future[Any]:
        self.files += [os.open(os.devnull, os.O_RDONLY) for _ in range(8)]
        return super().submit(work, *args, **words)


def is_open(number: int) -> bool:
    with contextlib.suppress(OSError):
        os.fstat(number)
        return True
    return False


def test_a_look_that_is_cut_short_closes_no_file_of_somebody_else(tmp_path: Path) -> None:
    """Its pipes are closed once; their numbers may be a database's the moment after."""
    repository = Repository(tmp_path / "policy.git")

    async def look() -> list[bool]:
        source = Source.parse(str(repository.path), timeout_s=0.001)
        fetcher = Fetcher(source, tmp_path / "store" / "policy.git")
        with Opening() as opening:
            asyncio.get_running_loop().set_default_executor(opening)
            try:
                with pytest.raises(Transient, match="took longer"):
                    await fetcher.look(known="", applied="")
                return [is_open(number) for number in opening.files]
            finally:
                for number in opening.files:
                    with contextlib.suppress(OSError):
                        os.close(number)

    opened = uvloop.run(look())
    assert opened
    assert all(opened)
