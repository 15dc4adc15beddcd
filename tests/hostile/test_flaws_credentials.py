"""Secrets of repositories as canaries (G9, G10, G11): used all the time, seen nowhere.

A server runs through every way in which a look goes wrong, with tokens and keys that can be told
from anything else. Then everything that it wrote, said or handed on is searched for them, in every
spelling that software gives to bytes.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from support.authority import Authority
from support.git_https import Asked, Exchange, GitHttps, answers, good, guarded, speaks_nonsense
from support.git_servers import ssh_server
from support.real_clients import eventually
from support.repositories import Repository
from support.server_process import Api, ServerProcess, serving

pytestmark = [pytest.mark.timeout(300)]

CREDENTIAL = "/tailnet/-/gitops/credential"
TOKEN, ROTATED, WRONG = (f"canary-{word}-token-of-a-forge" for word in ("good", "new", "wrong"))
USER = "deploy"


def bearer(token: str) -> str:
    """Return basic authentication with a token."""
    return f"Basic {base64.b64encode(f'{USER}:{token}'.encode()).decode()}"


def spellings(secret: bytes) -> set[bytes]:
    """Return what the bytes look like raw, in hex, and in base64 wherever they begin in it."""
    found = {secret, secret.hex().encode(), secret.hex().upper().encode()}
    for offset in range(3):
        coded = base64.b64encode(b"\0" * offset + secret)
        # Without what depends on the bytes before and after.
        found.add(coded[4 if offset else 0 :].rstrip(b"=")[:-2])
    return found


@dataclass(slots=True)
class Watch:
    """Everything that was seen of a server, and what must not be in it.

    Attributes:
        secrets: name -> bytes.
        seen: where -> what.
    """

    secrets: dict[str, bytes] = field(default_factory=dict)
    seen: dict[str, bytes] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def processes(self) -> None:
        """Take the arguments of all processes of this machine."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                told = path.read_bytes()
                with self.lock:
                    self.seen[f"arguments {told[:60]!r} {len(told)}"] = told

    def leaks(self) -> list[str]:
        """Return which secret is where."""
        return [
            f"{name} in {where}"
            for where, told in self.seen.items()
            for name, secret in self.secrets.items()
            for spelled in spellings(secret)
            # Line breaks as PEM and logs have them.
            if spelled in told or spelled in told.replace(b"\n", b"").replace(rb"\n", b"")
        ]

    def during(self, folder: Path) -> None:
        """Take what lies below a folder in the middle of a look."""
        for path in folder.rglob("*"):
            with contextlib.suppress(OSError):
                told = path.read_bytes()
                with self.lock:
                    self.seen[f"during a look {path.name} {len(self.seen)}"] = told

    def files(self, folder: Path) -> list[str]:
        """Take all files below a folder; return their names."""
        names = []
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                names.append(str(path.relative_to(folder)))
                self.seen[f"file {names[-1]}"] = path.read_bytes()
        return names


@dataclass(slots=True)
class World:
    """A server that follows a private repository, and everything that is seen of it."""

    server: ServerProcess
    api: Api
    watch: Watch

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the API; what it answers is seen."""
        answer = self.api.http.request(method, path, json=body, timeout=60)
        self.watch.seen[f"answer {len(self.watch.seen)} to {method} {path}"] = answer.content
        return answer.json()

    def run(self, *words: str, stdin: str = "") -> str:
        """Run the command line; what it prints is seen."""
        done = subprocess.run(
            [sys.executable, "-m", "mergescale", *words],
            env=self.server.environment(),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        told = done.stdout + done.stderr
        self.watch.seen[f"command {words} {len(self.watch.seen)}"] = told.encode()
        return told

    def reason(self) -> str:
        """Look at the repository; return the reason of `Fetched`."""
        status = self.ask("POST", "/tailnet/-/gitops/sync")
        [fetched] = [one for one in status["conditions"] if one["name"] == "Fetched"]
        return str(fetched["reason"])

    def look_around(self) -> None:
        """Take everything that can be asked for."""
        for path in ("", "/history", "/plan", "/credential"):
            self.ask("GET", f"/tailnet/-/gitops{path}")
        for path in ("/health", "/metrics", "/api/openapi.json"):
            answer = self.api.http.get(f"{self.server.url}{path}")
            self.watch.seen[f"page {path} {len(self.watch.seen)}"] = answer.content
        self.watch.processes()

    def run_around(self) -> None:
        """Run the commands that tell anything of it."""
        for words in (
            ("gitops", "status"),
            ("gitops", "credential", "show"),
            ("doctor",),
            ("config", "show"),
            ("backup", str(self.server.state_dir / "backup-of-a-test")),
        ):
            told = self.run(*words)
            # It opens the repository as the server does, and changes nothing.
            assert words != ("doctor",) or "newest is" in told, told


@contextlib.contextmanager
def world(
    folder: Path, url: str, ca_file: Path | None = None, path: str | None = None
) -> Iterator[World]:
    """Run a server that follows the repository at this address."""
    repository = {"url": url, "poll_s": 600, **({"ca_file": str(ca_file)} if ca_file else {})}
    settings = {"tailnets": json.dumps({"default": repository})}
    variables = {} if path is None else {"PATH": path}
    server = ServerProcess(folder / "server", settings=settings, variables=variables)
    with serving(server) as api:
        yield World(server, api, Watch())


def checked(site: World) -> None:
    """Assert that none of the secrets is anywhere; the server is stopped."""
    names = site.watch.files(site.server.state_dir)
    assert "mergescale.db" in names
    assert "server.log" in names
    assert any(name.startswith("backup-") for name in names)
    assert not any(".access" in name for name in names), names
    assert any("git" in where for where in site.watch.seen if where.startswith("arguments"))
    assert site.watch.leaks() == []
    # The search itself finds what is there.
    site.watch.seen["control"] = base64.b64encode(b"x" + next(iter(site.watch.secrets.values())))
    assert site.watch.leaks() != []


def test_tokens_are_seen_nowhere(tmp_path: Path) -> None:
    """Whatever the remote does, and whatever is asked of the server meanwhile."""
    repository = Repository(tmp_path / "served" / "policy.git")
    first = repository.commit({"policy.hujson": '{"acls": []}'})
    authority = Authority.made(tmp_path / "authority")
    with (
        GitHttps(authority, repository.path) as elsewhere,
        GitHttps(authority, repository.path) as remote,
        world(tmp_path, remote.url, authority.ca) as site,
    ):
        watch = site.watch
        watch.secrets = {one: one.encode() for one in (TOKEN, ROTATED, WRONG)}
        watch.secrets |= {f"{one} as sent": bearer(one).encode()[6:] for one in (TOKEN, ROTATED)}

        def observed(inner: Callable[[Exchange, Asked], None]) -> None:
            def behave(exchange: Exchange, asked: Asked) -> None:
                watch.processes()
                watch.during(site.server.state_dir / "git")
                inner(exchange, asked)

            remote.behave = behave

        observed(guarded(bearer(TOKEN)))
        assert site.reason() == "Denied"
        for token, reason in ((WRONG, "Denied"), (TOKEN, "Fetched")):
            body = {"kind": "token", "user": USER, "token": token}
            assert site.ask("PUT", CREDENTIAL, body)["kind"] == "token"
            assert site.reason() == reason
        assert site.ask("GET", "/tailnet/-/gitops")["current"]["commit"] == first
        location = f"{elsewhere.url}/info/refs?service=git-upload-pack"
        for inner, reason in (
            (answers(401, WWW_Authenticate='Basic realm="x"'), "Denied"),
            (answers(500), "Unreachable"),
            (answers(302, Location=location), "Redirected"),
            (speaks_nonsense, "BadAnswer"),
        ):
            observed(inner)
            assert site.reason() == reason
        site.look_around()
        for bad in ({"kind": TOKEN}, {"kind": "token", "token": f"{TOKEN} {TOKEN}"}, [TOKEN]):
            site.ask("PUT", CREDENTIAL, bad)
        words = ("gitops", "credential", "set", "--kind", "token", "--user", USER)
        site.run(*words, stdin=f"{ROTATED}\n")
        observed(guarded(bearer(ROTATED)))
        assert site.reason() == "Fetched"
        site.run(*words, stdin=f"{ROTATED} {ROTATED}\n")
        site.look_around()
        site.run_around()
        site.server.stop()
        assert any("Recv header" in str(told) for told in watch.seen.values())
        # The right one reached the right one, and nobody else.
        assert {bearer(TOKEN), bearer(ROTATED)} <= remote.sent("Authorization")
        assert elsewhere.asked == []
        checked(site)


def test_a_changed_address_is_never_sent_the_old_ones_token(tmp_path: Path) -> None:
    """Not the new one, and not the old one either when it is configured again (G10)."""
    repository = Repository(tmp_path / "served" / "policy.git")
    first = repository.commit({"policy.hujson": '{"acls": []}'})
    authority = Authority.made(tmp_path / "authority")
    with (
        GitHttps(authority, repository.path) as old,
        GitHttps(authority, repository.path) as new,
    ):
        old.behave = guarded(bearer(TOKEN))
        with world(tmp_path, old.url, authority.ca) as site:
            body = {"kind": "token", "user": USER, "token": TOKEN}
            assert site.ask("PUT", CREDENTIAL, body)["repository"] == old.url
            # Nobody says sync: who sets a credential wants a look.
            eventually(
                "the commit is in force",
                lambda: (
                    (site.ask("GET", "/tailnet/-/gitops")["current"] or {}).get("commit") == first
                ),
            )
        with world(tmp_path, new.url, authority.ca) as site:
            new.behave = answers(401, WWW_Authenticate='Basic realm="tell me"')
            assert site.reason() == "Denied"
            new.behave = good
            assert site.reason() == "Fetched"
            about = site.ask("GET", CREDENTIAL)
            assert about == {"repository": new.url, "kind": None}
        assert new.asked
        assert new.sent("Authorization") == set()
        asked = len(old.asked)
        with world(tmp_path, old.url, authority.ca) as site:
            assert site.reason() == "Denied"
        assert {one.headers.get("Authorization") for one in old.asked[asked:]} == {None}


def test_private_keys_are_seen_nowhere(tmp_path: Path) -> None:
    """Neither a deploy key, which ssh reads from a file, nor that of a GitHub App."""
    key = ed25519.Ed25519PrivateKey.generate()
    raw = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    text = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    repository = Repository(tmp_path / "served" / "policy.git")
    repository.commit({"policy.hujson": '{"acls": []}'})
    sampled = tmp_path / "sampled"
    with (
        ssh_server(tmp_path / "sshd", repository.path) as server,
        world(tmp_path, server.url, path=sampling(tmp_path / "programs", sampled)) as site,
    ):
        site.watch.secrets = {"the deploy key": raw}
        body = {"kind": "ssh", "privateKey": text, "knownHosts": server.known_hosts}
        about = site.ask("PUT", CREDENTIAL, body)
        assert site.reason() == "Denied"
        server.lets_in(about["publicKey"])
        assert site.reason() == "Fetched"
        protected = text.replace("BEGIN OPENSSH", "BEGIN ENCRYPTED")
        site.ask("PUT", CREDENTIAL, {**body, "privateKey": protected})
        site.look_around()
        site.run("backup", str(site.server.state_dir / "backup-of-a-test"))
        app = rsa.generate_private_key(65537, 2048)
        site.watch.secrets["the app's key"] = app.private_numbers().d.to_bytes(256, "big")
        pem = app.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        site.ask(
            "PUT",
            CREDENTIAL,
            {"kind": "github-app", "appId": 1, "installationId": 2, "privateKey": pem},
        )
        site.server.stop()
        site.watch.seen["arguments of git and ssh"] = sampled.read_bytes()
        assert b"ssh\0-F\0/dev/null\0-i\0./key\0" in sampled.read_bytes()
        checked(site)


def sampling(folder: Path, sampled: Path) -> str:
    """Return a search path on which git and ssh first write down all arguments that there are."""
    folder.mkdir()
    for name in ("git", "ssh"):
        real = shutil.which(name)
        program = folder / name
        program.write_text(
            f'#!/bin/sh\ncat /proc/[0-9]*/cmdline >> {sampled} 2>/dev/null\nexec {real} "$@"\n',
            "utf-8",
        )
        program.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"
