"""The command line, run inside the test's process."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import structlog

from mergescale.cli.app import run


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class CommandLine:
    """Somebody at a shell.

    Attributes:
        shared: options before the noun.
        environment: ``MERGESCALE_`` variables; those of the test run do not count.
    """

    shared: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str | Path, stdin: bytes = b"") -> Ended:
        """Run one command."""
        out, err = io.StringIO(), io.StringIO()
        with (
            _environment(self.environment),
            _server_undone(),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
        ):
            code = run([*self.shared, *map(str, arguments)])
        return Ended(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _server_undone() -> Iterator[None]:
    """Take back what a server that was started in this process did to logs and collector."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        gc.enable()
        structlog.configure(**before)
        root.handlers[:] = handlers
        root.setLevel(level)


@contextlib.contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    for name in before:
        if name.startswith("MERGESCALE_"):
            del os.environ[name]
    os.environ.update(wanted)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
