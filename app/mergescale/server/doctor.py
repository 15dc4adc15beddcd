"""What is wrong with this machine's server, seen from outside of it: ``mergescale doctor``.

Every check answers with findings and none of them changes anything. A check that breaks is a
finding too, so that one broken part never hides another.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import httpx
from cryptography import x509

from mergescale.gitops.git.child import Fetcher
from mergescale.gitops.git.source import Source
from mergescale.gitops.trust.keys import StoreUnreadable, examined
from mergescale.identity.masterkey import MasterKey
from mergescale.kernel.errors import MergescaleError
from mergescale.kernel.ids import TailnetName
from mergescale.kernel.keys import PrivateKey
from mergescale.server.configuration import read
from mergescale.server.findings import Finding, State
from mergescale.server.master_key import master_key, missing
from mergescale.server.opening import Opening
from mergescale.server.settings import Listen, Settings
from mergescale.server.system import SystemClock, SystemEntropy
from mergescale.server.tls import certificate_files
from mergescale.server.watched import source_of
from mergescale.store.backup import NothingToBackUp
from mergescale.store.database import Database
from mergescale.store.inspection import Seen, inspect
from mergescale.store.server_secrets import MasterKeyWrong, ServerSecrets
from mergescale.wire import stun
from mergescale.wire.noise import public_key

_ANSWER_S: Final = 3.0
#: LIMIT: a full disk refuses writes; a thousand nodes and their history need far less than this.
_DISK_BYTES: Final = 1 << 30
#: LIMIT: each client holds one descriptor, and a reconnecting one two for a moment.
_DESCRIPTORS: Final = 4096
_EXPIRES_SOON: Final = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class _Case:
    """What the checks share: the settings, the database as it was found, whether a server runs."""

    settings: Settings
    seen: Seen | None
    runs: bool


def examine(environment: Mapping[str, str]) -> list[Finding]:
    """Look at everything; `environment` must be the process's own."""
    reading = read(environment)
    findings = [
        Finding("configuration", State.BAD, str(problem), "`mergescale config check` shows all")
        for problem in reading.problems
    ] or [Finding("configuration", State.GOOD, "every setting can be used")]
    if reading.settings is None:
        return findings
    settings = reading.settings
    seen, found = _database(settings)
    findings += found
    case = _Case(settings, seen, _runs(settings))
    for part, check in _CHECKS.items():
        try:
            findings += check(case)
        except MergescaleError as error:
            findings.append(Finding(part, State.BAD, error.message, error.help))
        except (OSError, ValueError, httpx.HTTPError) as error:
            findings.append(Finding(part, State.BAD, f"cannot be checked: {error}"))
    return findings


def _database(settings: Settings) -> tuple[Seen | None, list[Finding]]:
    try:
        seen = inspect(settings.database)
    except NothingToBackUp as error:
        return None, [
            Finding("database", State.WARN, error.message, "the first `mergescale serve` makes it")
        ]
    except MergescaleError as error:
        return None, [Finding("database", State.BAD, error.message, error.help)]
    if seen.faults:
        return seen, [
            Finding("database", State.BAD, f"damaged: {seen.faults[0]}", "restore a backup")
        ]
    if seen.schema != seen.current:
        told = f'schema "{seen.schema}", this version has "{seen.current}"'
        return seen, [Finding("database", State.WARN, told, "a start upgrades an older one")]
    return seen, [Finding("database", State.GOOD, f"whole, schema {seen.schema}")]


def _state_dir(case: _Case) -> Iterator[Finding]:
    folder = case.settings.state_dir
    if not folder.exists():
        yield Finding("state", State.WARN, f'"{folder}" is not there', "the first start makes it")
        return
    mode = stat.S_IMODE(folder.stat().st_mode)
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("state", State.BAD, f'"{folder}" may not be used by this user')
    elif mode & stat.S_IRWXO:
        told = f'"{folder}" is open to others (mode {mode:04o})'
        yield Finding("state", State.WARN, told, f"chmod 700 {folder}")
    else:
        yield Finding("state", State.GOOD, f'"{folder}" is the server\'s own')
    free_bytes = shutil.disk_usage(folder).free
    state = State.GOOD if free_bytes >= _DISK_BYTES else State.WARN
    yield Finding(
        "disk",
        state,
        f"{free_bytes >> 20} MiB free",
        ""
        if state is State.GOOD
        else "make room: with a full disk nothing can be registered or applied",
    )


def _master_key(case: _Case) -> Iterator[Finding]:
    key, needed = master_key(case.settings), case.seen.sealed_by if case.seen else ""
    if key is None and needed:
        raise missing(case.settings, needed)
    if key is None:
        yield Finding("master key", State.WARN, "none yet", "the first start makes it")
        return
    if needed and key.fingerprint != needed:
        raise MasterKeyWrong(needed, key)
    if needed:
        noise = asyncio.run(_noise_key(case.settings, key))
        yield Finding("master key", State.GOOD, f"{key.fingerprint} opens the server's keys")
        yield from _public(case, noise)


async def _noise_key(settings: Settings, key: MasterKey) -> PrivateKey:
    database = Database.open(settings.database, settings.database_answer_s)
    try:
        secrets = await ServerSecrets.open(database, key, SystemClock(), SystemEntropy())
        return PrivateKey(await secrets.get("noise"))
    finally:
        await database.dispose()


def _public(case: _Case, noise: PrivateKey) -> Iterator[Finding]:
    """Check that clients who use the server's URL find this server."""
    url = case.settings.url
    if not case.runs:
        yield Finding("server", State.WARN, "does not run here", "`mergescale serve` starts it")
        return
    try:
        answer = httpx.get(f"{url}/key?v=130", timeout=_ANSWER_S, trust_env=False)
        told = answer.json()["publicKey"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        why = str(error) or type(error).__name__
        yield Finding(
            "server",
            State.BAD,
            f"{url}/key does not answer: {why}",
            "clients use MERGESCALE_SERVER_URL: check its name, port, proxy, certificate",
        )
        return
    if told == str(public_key(noise)):
        yield Finding("server", State.GOOD, f"{url} answers with our key")
    else:
        yield Finding(
            "server",
            State.BAD,
            f"another server answers at {url}",
            "check MERGESCALE_SERVER_URL and where its name leads",
        )


def _clock(case: _Case) -> Iterator[Finding]:
    written = case.seen.written if case.seen else None
    now = SystemClock().now()
    if written is not None and now < written - timedelta(minutes=1):
        yield Finding(
            "clock",
            State.BAD,
            f"{now:%Y-%m-%dT%H:%M:%SZ} is before the newest entry"
            f" of the database, {written:%Y-%m-%dT%H:%M:%SZ}",
            "set the clock, use NTP",
        )
    else:
        yield Finding("clock", State.GOOD, f"{now:%Y-%m-%dT%H:%M:%SZ}")


def _ports(case: _Case) -> Iterator[Finding]:
    settings = case.settings
    wanted = [("MERGESCALE_LISTEN", settings.listen, socket.SOCK_STREAM)]
    if settings.relay:
        if not settings.relay_shares_main_port:
            relay = ("MERGESCALE_RELAY_LISTEN", settings.relay_listen, socket.SOCK_STREAM)
            wanted.append(relay)
        wanted.append(("MERGESCALE_STUN_LISTEN", settings.stun_listen, socket.SOCK_DGRAM))
    for setting, text, kind in wanted:
        failed = _bind(Listen.parse(text), kind)
        if failed is None and case.runs:
            yield Finding(
                "ports",
                State.WARN,
                f"{text} is free though a server runs",
                f"does it have another {setting}?",
            )
        elif failed is None:
            yield Finding("ports", State.GOOD, f"{text} is free")
        elif failed == errno.EADDRINUSE and case.runs:
            yield Finding("ports", State.GOOD, f"{text} is held, as by the server")
        else:
            yield Finding(
                "ports",
                State.BAD,
                f"{text}: {os.strerror(failed)}",
                f"stop what holds it, or change {setting}",
            )


def _bind(listen: Listen, kind: socket.SocketKind) -> int | None:
    """Try to listen as the server would; return what the system says against it."""
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    with socket.socket(family, kind) as probe:
        if kind is socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listen.host, listen.port))
        except OSError as error:
            return error.errno or errno.EINVAL
    return None


def _repositories(case: _Case) -> Iterator[Finding]:
    in_force = (case.seen.in_force or {}) if case.seen else {}
    stored = case.seen is not None and case.seen.schema == case.seen.current
    for name, repository in case.settings.repositories.items():
        commit = in_force.get(name)
        good = f"in force: {commit[:12]}" if commit else "nothing in force yet"
        if repository is None:
            yield Finding(
                "repository", State.WARN, f"{name} follows none", "MERGESCALE_REPOSITORY names it"
            )
            continue
        source = source_of(repository)
        try:
            opening = Opening(case.settings, TailnetName(name), repository, stored)
            head = asyncio.run(_fetch(source, opening))
        except MergescaleError as error:
            yield Finding("repository", State.BAD, f"{name}: {error.message} ({good})", error.help)
            continue
        state = State.GOOD if commit == head else State.WARN
        yield Finding(
            "repository",
            state,
            f"{name}: newest is {head[:12]}, {good}",
            "" if state is State.GOOD else "`mergescale gitops status` says why",
        )


def _trust(case: _Case) -> Iterator[Finding]:
    for name, repository in case.settings.repositories.items():
        if repository is None or not repository.trust.demands.any:
            continue
        try:
            told = examined(repository.trust.demands, SystemClock().now())
        except StoreUnreadable as error:
            yield Finding("trust", State.BAD, f"{name}: {error.message}", error.help)
        else:
            yield Finding("trust", State.GOOD, f"{name}: {told}")


async def _fetch(source: Source, opening: Opening) -> str:
    """Fetch into a folder of its own; return the newest commit."""
    with tempfile.TemporaryDirectory() as folder:
        fetcher = Fetcher(source, Path(folder) / "probe.git", lender=opening)
        try:
            found = await fetcher.look(known="", applied="")
        finally:
            await fetcher.close()
    return getattr(found, "commit", "")


def _certificate(case: _Case) -> Iterator[Finding]:
    files = certificate_files(case.settings)
    if files is None or case.settings.tls_certificate is None:
        if case.settings.url.startswith("http:"):
            yield Finding(
                "tls",
                State.WARN,
                "the server's URL has no TLS",
                "clients insist on it unless the address is private",
            )
        return
    files.context()
    leaf = x509.load_pem_x509_certificates(case.settings.tls_certificate.read_bytes())[0]
    left = leaf.not_valid_after_utc - SystemClock().now()
    host = case.settings.url_host
    if left < timedelta():
        yield Finding("tls", State.BAD, "the certificate has expired", "renew it")
    elif not _names(leaf, host):
        yield Finding(
            "tls",
            State.BAD,
            f'the certificate is not for "{host}"',
            "get one for the host of MERGESCALE_SERVER_URL",
        )
    else:
        state = State.GOOD if left > _EXPIRES_SOON else State.WARN
        yield Finding(
            "tls",
            state,
            f"valid for {left.days} days",
            "" if state is State.GOOD else "renew it; the server reads the new files by itself",
        )


def _names(leaf: x509.Certificate, host: str) -> bool:
    """Say whether the certificate is for the host (RFC 9525: alternative names only)."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    dns = names.get_values_for_type(x509.DNSName)
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return host in {*dns, *addresses} or f"*.{host.partition('.')[2]}" in dns


def _relay(case: _Case) -> Iterator[Finding]:
    settings = case.settings
    if not settings.relay:
        yield Finding(
            "relay",
            State.WARN,
            "none of the server's own: devices behind NAT reach nobody without one",
            "declare one in derp.hujson, or set MERGESCALE_RELAY",
        )
        return
    if not case.runs:
        return
    host, shared = settings.relay_host or settings.url_host, settings.relay_shares_main_port
    port = settings.url_port if shared else Listen.parse(settings.relay_listen).port
    name = f"[{host}]" if ":" in host else host
    url = f"https://{name}:{port}/derp/probe"
    # Its own certificate is pinned by clients, not trusted by anybody.
    answer = httpx.get(url, timeout=_ANSWER_S, verify=shared, trust_env=False)
    state = State.GOOD if answer.is_success else State.BAD
    yield Finding("relay", state, f"{url} answers {answer.status_code}")
    stun_port = Listen.parse(settings.stun_listen).port
    family, _, _, _, address = socket.getaddrinfo(host, stun_port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.settimeout(_ANSWER_S)
        probe.sendto(stun.request(os.urandom(12)), address)
        stun.parse_response(probe.recv(2048))
    yield Finding("relay", State.GOOD, f"stun answers at {name}:{stun_port}")


def _limits(case: _Case) -> Iterator[Finding]:  # noqa: ARG001 - as all checks
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    few = 0 <= hard < _DESCRIPTORS
    yield Finding(
        "limits",
        State.WARN if few else State.GOOD,
        f"{hard} open files at most" if hard >= 0 else "open files without limit",
        "raise LimitNOFILE: every client holds one" if few else "",
    )


def _runs(settings: Settings) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_ANSWER_S)
        try:
            probe.connect(str(settings.unix_socket))
        except OSError:
            return False
    return True


_CHECKS: Final[Mapping[str, Callable[[_Case], Iterator[Finding]]]] = {
    "state": _state_dir,
    "master key": _master_key,
    "clock": _clock,
    "limits": _limits,
    "tls": _certificate,
    "ports": _ports,
    "relay": _relay,
    "trust": _trust,
    "repository": _repositories,
}
