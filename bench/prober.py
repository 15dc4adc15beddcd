"""Asks the API something small over and over, and writes how long each answer took.

    python -m bench.prober <unix socket> <path> <file>

A process of its own: the generator is busy exactly when the answer matters.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

PERIOD_S: Final = 0.02
#: LIMIT: an answer that takes longer than this is counted as having taken this long.
PATIENCE_S: Final = 30.0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the unix socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def probe(path: str, target: str, out: Path) -> None:
    """Ask until the server is gone; each line is when it asked (monotonic) and the seconds it took."""
    connection = _UnixConnection(path)
    with out.open("w", buffering=1, encoding="ascii") as lines:
        while True:
            start = time.monotonic()
            try:
                connection.request("GET", target)
                connection.getresponse().read()
            except TimeoutError:
                connection.close()
            except (OSError, http.client.HTTPException):
                return
            lines.write(f"{start:.6f} {time.monotonic() - start:.6f}\n")
            time.sleep(PERIOD_S)


@contextlib.contextmanager
def probing(sockets: Mapping[Path, Path], target: str) -> Iterator[None]:
    """Probe for the block, which begins when every server has answered once.

    Args:
        sockets: unix socket of a server -> where to write how long its answers took.
        target: what to ask for.

    Raises:
        RuntimeError: a server did not answer.
    """
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.prober", str(unix_socket), target, str(out)],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.DEVNULL,
        )
        for unix_socket, out in sockets.items()
    ]
    try:
        _wait_for(sockets.values())
        yield
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def _wait_for(files: Collection[Path]) -> None:
    """Wait until each file has a line: to start takes a process longer than some measures do."""
    deadline = time.monotonic() + PATIENCE_S
    while not all(path.exists() and path.stat().st_size for path in files):
        if time.monotonic() > deadline:
            raise RuntimeError("the API of a server does not answer")
        time.sleep(PERIOD_S)


def latencies(out: Path, start: float, end: float) -> list[float]:
    """Return the seconds that answers took which were asked for, or awaited, in the window."""
    lines = out.read_text("ascii").splitlines() if out.exists() else []
    pairs = [tuple(map(float, line.split())) for line in lines if line.count(" ") == 1]
    return [took_s for at, took_s in pairs if at <= end and at + took_s >= start]


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        probe(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
