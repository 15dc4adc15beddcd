"""Real servers of git on loopback: OpenSSH's sshd, and nginx before ``git http-backend``.

Each has a configuration, keys and a port of its own and is ended with its test. Where a program is
not installed the test is skipped.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from support.authority import Authority
from support.real_clients import eventually, free_port

_SBIN: Final = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
#: OpenSSH wants it to be there and empty when it is started by root.
_SEPARATION: Final = Path("/run/sshd")


def program(name: str) -> str:
    """Return the path of a program of a system administrator's; skip the test without it."""
    found = shutil.which(name, path=_SBIN)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def new_ssh_key() -> tuple[str, str]:
    """Return an ed25519 key: private in OpenSSH's format, public as in ``authorized_keys``."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return private.decode(), public.decode()


@dataclass(frozen=True, slots=True)
class SshServer:
    """A running sshd that serves a repository.

    Attributes:
        folder: with its files.
        port: on 127.0.0.1.
        repository: path of the repository.
    """

    folder: Path
    port: int
    repository: Path

    @property
    def url(self) -> str:
        user = pwd.getpwuid(os.getuid()).pw_name
        return f"ssh://{user}@127.0.0.1:{self.port}{self.repository}"

    @property
    def known_hosts(self) -> str:
        return self.known_by((self.folder / "host_key.pub").read_text("utf-8"))

    def known_by(self, public: str) -> str:
        """Return a line that says that the server has this key."""
        return f"[127.0.0.1]:{self.port} {public.strip()}\n"

    def lets_in(self, *public: str) -> None:
        """Accept these keys and no others."""
        path = self.folder / "authorized_keys"
        path.write_text("".join(f"{one}\n" for one in public), "utf-8")
        path.chmod(0o600)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8", "replace")


@contextlib.contextmanager
def ssh_server(folder: Path, repository: Path) -> Iterator[SshServer]:
    """Run sshd for the block."""
    sshd = program("sshd")
    folder.mkdir(parents=True)
    server = SshServer(folder, free_port(), repository)
    private, public = new_ssh_key()
    (folder / "host_key").write_text(private, "utf-8")
    (folder / "host_key").chmod(0o600)
    (folder / "host_key.pub").write_text(public, "utf-8")
    server.lets_in()
    (folder / "config").write_text(
        f"""ListenAddress 127.0.0.1
Port {server.port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowAgentForwarding no
PrintMotd no
""",
        "utf-8",
    )
    with contextlib.ExitStack() as resources:
        if os.getuid() == 0 and not _SEPARATION.exists():
            _SEPARATION.mkdir(mode=0o755)
            resources.callback(_SEPARATION.rmdir)
        words = [sshd, "-D", "-f", str(folder / "config"), "-E", str(folder / "log")]
        resources.enter_context(_running(words, server.port))
        yield server


@dataclass(frozen=True, slots=True)
class WebServer:
    """A running nginx that serves the bare repositories in a folder over https.

    Attributes:
        folder: with its files.
        port: on 127.0.0.1.
        name: of the repository.
    """

    folder: Path
    port: int
    name: str

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/team/{self.name}"

    def lets_in(self, user: str, token: str) -> None:
        """Accept this user name and token, and no others."""
        salted = base64.b64encode(hashlib.sha1(token.encode()).digest()).decode()  # noqa: S324
        (self.folder / "users").write_text(f"{user}:{{SHA}}{salted}\n", "utf-8")
        (self.folder / "users").chmod(0o644)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8", "replace")


@contextlib.contextmanager
def web_server(folder: Path, repository: Path, authority: Authority) -> Iterator[WebServer]:
    """Run nginx and fcgiwrap for the block; the repository is at ``/team/<name>``."""
    nginx, fcgiwrap = program("nginx"), program("fcgiwrap")
    folder.mkdir(parents=True)
    server = WebServer(folder, free_port(), repository.name)
    server.lets_in("nobody", "nothing")
    (folder / "config").write_text(_nginx(server, repository, authority), "utf-8")
    backend = [fcgiwrap, "-s", f"unix:{folder}/cgi"]
    with (
        _started(backend),
        _running(
            [nginx, "-p", str(folder), "-e", str(folder / "log"), "-c", str(folder / "config")],
            server.port,
        ),
    ):
        eventually("fcgiwrap listens", (folder / "cgi").exists, within_s=10)
        yield server


def _nginx(server: WebServer, repository: Path, authority: Authority) -> str:
    folder = server.folder
    exec_path = subprocess.run(
        ["git", "--exec-path"], capture_output=True, text=True, check=True
    ).stdout.strip()
    temporary = "\n".join(
        f"  {kind}_temp_path {folder}/tmp-{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # Alone in one process, under the account of the tests: the repository is theirs.
    return f"""daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/log;
events {{ worker_connections 64; }}
http {{
{temporary}
  access_log {folder}/access;
  server {{
    listen 127.0.0.1:{server.port} ssl;
    ssl_certificate {authority.certificate};
    ssl_certificate_key {authority.key};
    location ~ ^/team(/.*)$ {{
      auth_basic "policy";
      auth_basic_user_file {folder}/users;
      fastcgi_pass unix:{folder}/cgi;
      fastcgi_param SCRIPT_FILENAME {exec_path}/git-http-backend;
      fastcgi_param GIT_PROJECT_ROOT {repository.parent};
      fastcgi_param GIT_HTTP_EXPORT_ALL "";
      fastcgi_param GIT_PROTOCOL $http_git_protocol;
      fastcgi_param PATH_INFO $1;
      fastcgi_param REMOTE_USER $remote_user;
      fastcgi_param REQUEST_METHOD $request_method;
      fastcgi_param QUERY_STRING $query_string;
      fastcgi_param CONTENT_TYPE $content_type;
      fastcgi_param CONTENT_LENGTH $content_length;
    }}
  }}
}}
"""


@contextlib.contextmanager
def _running(words: list[str], port: int) -> Iterator[None]:
    """Run a server for the block, once it listens."""
    with _started(words) as process:

        def listens() -> bool:
            assert process.poll() is None, f"{words[0]} ended with {process.returncode}"
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                return False
            return True

        eventually(f"{words[0]} listens", listens, within_s=15)
        yield


@contextlib.contextmanager
def _started(words: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
