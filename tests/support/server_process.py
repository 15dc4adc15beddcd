"""A Mergescale server in a process of its own, and the policy repository it watches."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from support.plain import PLAIN
from support.real_clients import eventually, free_port

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "policy_examples"

_GIT_IDENTITY = {
    "GIT_AUTHOR_NAME": "Ana",
    "GIT_AUTHOR_EMAIL": "ana@example.com",
    "GIT_COMMITTER_NAME": "Ana",
    "GIT_COMMITTER_EMAIL": "ana@example.com",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


@dataclass(frozen=True, slots=True)
class PolicyRepository:
    """A git repository in a scratch folder, made out of a policy example."""

    folder: Path

    @classmethod
    def from_example(cls, folder: Path, example: str) -> PolicyRepository:
        shutil.copytree(EXAMPLES / example, folder)
        repository = cls(folder)
        repository.git("init", "--quiet", "--initial-branch=main")
        repository.commit("a first policy")
        return repository

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.folder,
            env={**os.environ, **_GIT_IDENTITY},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def read(self, name: str = "policy.hujson") -> str:
        return (self.folder / name).read_text("utf-8")

    def commit(self, message: str, **files: str) -> str:
        """Write files (``policy=…`` is ``policy.hujson``), commit everything, return the commit."""
        for name, text in files.items():
            (self.folder / f"{name}.hujson").write_text(text, "utf-8")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")


@dataclass(slots=True)
class ServerProcess:
    """``mergescale serve`` on loopback, on ports of its own.

    Attributes:
        settings: further ``MERGESCALE_`` settings by lower-case name.
        variables: other environment variables of the server process, and of no other.
        within: a command that runs the rest of its arguments in its own place.
    """

    state_dir: Path
    repository: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    within: Sequence[str] = ()
    port: int = field(default_factory=free_port)
    relay_port: int = field(default_factory=free_port)
    stun_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.state_dir / "server.log"

    def environment(self) -> dict[str, str]:
        """Return the environment of the server, which the command line understands too."""
        settings = {
            "listen": f"127.0.0.1:{self.port}",
            "relay_listen": f"127.0.0.1:{self.relay_port}",
            "stun_listen": f"127.0.0.1:{self.stun_port}",
            "state_dir": str(self.state_dir),
            "log_format": "json",
            "log_level": "debug",
            **({"repository": str(self.repository)} if self.repository else {}),
            **self.settings,
        }
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MERGESCALE_")}
        return {**inherited, **{f"MERGESCALE_{k.upper()}": v for k, v in settings.items()}}

    def start(self, *, wait_s: float = 30) -> ServerProcess:
        """Start it and wait until it answers."""
        self.state_dir.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.within, sys.executable, "-m", "mergescale", "serve"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PYTHONFAULTHANDLER": "1", **self.environment(), **self.variables},
                start_new_session=True,
            )
        eventually("the server answers", self.healthy, within_s=wait_s)
        return self

    def healthy(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text("utf-8", "replace")[-4000:]
        try:
            return httpx.get(f"{self.url}/health", timeout=2, verify=PLAIN).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self, how: signal.Signals = signal.SIGTERM, wait_s: float = 10) -> int | None:
        """End it; return its exit code. One that does not end says where it is, in its log."""
        if self.process is None:
            return None
        process, self.process = self.process, None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        try:
            return process.wait(wait_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(wait_s)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise AssertionError(self.log.read_text("utf-8", "replace")[-8000:]) from None

    def api(self) -> Api:
        """Return a client of the API with the administrator token of the first start."""
        token = (self.state_dir / "admin-token").read_text("utf-8").strip()
        return Api(self.url, token)

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line against this server."""
        return subprocess.run(
            [sys.executable, "-m", "mergescale", *arguments],
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return what was logged under this event name so far."""
        lines = self.log.read_text("utf-8", "replace").splitlines()
        parsed = (json.loads(line) for line in lines if line.startswith("{"))
        return [entry for entry in parsed if entry.get("event") == name]


class Api:
    """Tailscale's v2 API as far as tests need it."""

    def __init__(self, url: str, token: str) -> None:
        self.http = httpx.Client(
            base_url=f"{url}/api/v2",
            headers={"authorization": f"Bearer {token}"},
            timeout=10,
            verify=PLAIN,
        )

    def auth_key(
        self, *, user: str | None = None, tags: tuple[str, ...] = (), **create: bool
    ) -> str:
        """Make a pre-auth key; returns its text."""
        capabilities = {"devices": {"create": {**create, "tags": list(tags)}}}
        body = {"capabilities": capabilities, "expirySeconds": 3600, "user": user}
        response = self.http.post(
            "/tailnet/-/keys", json={k: v for k, v in body.items() if v is not None}
        )
        assert response.status_code == 200, response.text
        return str(response.json()["key"])

    def devices(self) -> dict[str, dict[str, Any]]:
        """Return the devices by the first label of their name."""
        found = self.http.get("/tailnet/-/devices", params={"fields": "all"})
        assert found.status_code == 200, found.text
        return {d["name"].split(".")[0]: d for d in found.json()["devices"]}

    def settled(self, *names: str) -> bool:
        """Say whether these devices have a stream and a home relay.

        Not endpoints: a Go client that looked too early reports none, and looks again after 20 s
        and more. Until then its traffic goes through the relay.
        """
        devices = self.devices()
        return all(
            name in devices
            and devices[name]["connectedToControl"]
            and devices[name]["clientConnectivity"]["derp"]
            for name in names
        )


@contextlib.contextmanager
def serving(server: ServerProcess) -> Iterator[Api]:
    """Run the server for the block."""
    with contextlib.ExitStack() as resources:
        resources.callback(server.stop)
        server.start()
        api = server.api()
        resources.callback(api.http.close)
        yield api
