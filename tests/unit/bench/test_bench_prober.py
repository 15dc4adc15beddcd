"""Asking the API meanwhile, from a process of its own."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.prober import latencies, probing


class _Answer(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while line := self.rfile.readline():
            if line == b"\r\n":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Path]:
    """Return the socket of a server that answers everything."""
    path = tmp_path / "api"
    with socketserver.UnixStreamServer(str(path), _Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield path
        server.shutdown()
        thread.join()


@pytest.mark.enable_socket
def test_the_prober_has_begun_when_the_measure_does(api: Path, tmp_path: Path) -> None:
    """However short the measure is, there is an answer from before it."""
    out = tmp_path / "probes"
    with probing({api: out}, "/"):
        answers = latencies(out, 0.0, time.monotonic())
    assert answers
    assert all(0 < took_s < 5 for took_s in answers)


def test_answers_count_that_were_awaited_in_the_window(tmp_path: Path) -> None:
    """Asked before it and answered in it, and asked in it; nothing earlier, nothing later."""
    out = tmp_path / "probes"
    out.write_text("1.0 0.5\n1.8 0.4\n2.5 3.0\n6.0 0.1\n7.", "ascii")
    assert latencies(out, 2.0, 5.0) == [0.4, 3.0]
