"""``mergescale doctor`` finds what was broken on purpose, and nothing in a server that is well."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.command_line import CommandLine, Ended
from support.real_clients import eventually, free_port
from support.server_process import PolicyRepository, ServerProcess, serving

pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that follows a repository."""
    folder = tmp_path_factory.mktemp("doctor")
    repository = PolicyRepository.from_example(folder / "policy", "01-start-up")
    process = ServerProcess(folder / "state", repository.folder)
    process.state_dir.mkdir(mode=0o700)
    with serving(process):
        eventually("a policy is in force", lambda: bool(process.events("policy.applied")))
        yield process


def examined(server: ServerProcess, **settings: str) -> Ended:
    """Run the doctor with the server's settings and perhaps others."""
    environment = {k: v for k, v in server.environment().items() if k.startswith("MERGESCALE_")}
    environment |= {f"MERGESCALE_{name.upper()}": value for name, value in settings.items()}
    return CommandLine((), environment)("doctor")


def bad(ended: Ended) -> list[str]:
    """Return what does not work."""
    return [line for line in ended.out.splitlines() if line.startswith("✗")]


def test_a_server_that_is_well_has_nothing_bad(server: ServerProcess) -> None:
    """Every part was looked at; it answers with our key, its relay and STUN too."""
    ended = examined(server)
    assert (ended.code, bad(ended)) == (0, []), ended.out
    for line in (
        f"✔ server: {server.url} answers with our key",
        f"✔ relay: https://127.0.0.1:{server.relay_port}/derp/probe answers 200",
        f"✔ relay: stun answers at 127.0.0.1:{server.stun_port}",
        f"✔ ports: 127.0.0.1:{server.port} is held, as by the server",
        "✔ configuration: every setting can be used",
    ):
        assert line in ended.out.splitlines()
    parts = {line.split(":")[0][2:] for line in ended.out.splitlines() if line[0] in "✔!✗"}
    assert parts == {
        *("configuration", "database", "state", "disk", "master key", "server", "clock"),
        *("limits", "tls", "ports", "relay", "repository"),
    }


def test_json_has_the_same(server: ServerProcess) -> None:
    """For programs: a list of part, state, what and help."""
    environment = {k: v for k, v in server.environment().items() if k.startswith("MERGESCALE_")}
    found = CommandLine((), environment)("doctor", "-o", "json").json
    assert {finding["state"] for finding in found} <= {"good", "warn"}
    assert all(set(finding) == {"part", "state", "what", "help"} for finding in found)


def test_an_url_that_leads_elsewhere_is_found(server: ServerProcess, tmp_path: Path) -> None:
    """Nobody there, and another server there, are told apart."""
    nobody = f"http://127.0.0.1:{free_port()}"
    told = bad(examined(server, server_url=nobody))
    assert any(line.startswith(f"✗ server: {nobody}/key does not answer") for line in told)
    with serving(ServerProcess(tmp_path / "other")) as api:
        other = f"http://127.0.0.1:{api.http.base_url.port}"
        assert f"✗ server: another server answers at {other}" in bad(
            examined(server, server_url=other)
        )


def test_a_repository_that_is_gone_is_found(server: ServerProcess, tmp_path: Path) -> None:
    """With what is in force all the same."""
    ended = examined(server, repository=str(tmp_path / "nowhere"))
    assert ended.code == 3
    [line] = bad(ended)
    assert line.startswith("✗ repository: default: ")
    assert "(in force: " in line


def test_what_is_broken_in_a_stopped_server_is_found(server: ServerProcess, tmp_path: Path) -> None:
    """Each fault alone, in a copy: its line, and exit code 3."""
    copy = tmp_path / "copy"
    shutil.copytree(
        server.state_dir, copy, ignore=lambda _, names: [n for n in names if n.endswith(".sock")]
    )
    broken = {"state_dir": str(copy), "relay": "false", "listen": f"127.0.0.1:{free_port()}"}
    ended = examined(server, **broken)
    assert (ended.code, bad(ended)) == (0, []), ended.out
    assert "! server: does not run here" in ended.out
    assert "! relay: none of the server's own: devices behind NAT reach nobody" in ended.out

    (copy / "master-key").rename(copy / "away")
    [line] = bad(examined(server, **broken))
    assert "and there is no key" in line
    (copy / "away").rename(copy / "master-key")
    (copy / "master-key").chmod(0o644)
    [line] = bad(examined(server, **broken))
    assert "is open to others (mode 0644)" in line
    (copy / "master-key").chmod(0o600)

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert f"✗ ports: {address}: Address already in use" in bad(
            examined(server, **{**broken, "listen": address})
        )

    for name in ("mergescale.db-wal", "mergescale.db-shm"):
        (copy / name).unlink(missing_ok=True)
    (copy / "mergescale.db").write_bytes(b"no database" * 400)
    ended = examined(server, **broken)
    assert "✗ database: the database could not be read (SQLITE_NOTADB)" in bad(ended)
    assert ended.code == 3


def test_a_bad_certificate_is_found(server: ServerProcess, tmp_path: Path) -> None:
    """For another name."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    names = ("-subj", "/CN=x", "-addext", "subjectAltName=DNS:a.example.com")
    files = ("-keyout", str(key), "-out", str(certificate))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files, "-days", "30", *names],
        check=True,
        capture_output=True,
    )
    tls = {"tls_certificate": str(certificate), "tls_key": str(key), "relay": "false"}
    stopped = {"state_dir": str(tmp_path / "state"), "listen": f"127.0.0.1:{free_port()}"}
    mine = examined(server, **tls, **stopped, server_url="https://a.example.com")
    assert "✔ tls: valid for 29 days" in mine.out
    other = examined(server, **tls, **stopped, server_url="https://b.example.com")
    assert bad(other) == ['✗ tls: the certificate is not for "b.example.com"']


def test_a_setting_that_cannot_be_is_found(server: ServerProcess) -> None:
    """Nothing else can be looked at without settings."""
    ended = examined(server, relay_region="many")
    assert ended.code == 3
    assert [line[:15] for line in ended.out.splitlines() if line[0] != " "] == ["✗ configuration"]


def test_the_unit_runs_this_program(tmp_path: Path) -> None:
    """It is printed with the program's own path; systemd finds nothing wrong with it."""
    unit = CommandLine()("unit").out
    command = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
    assert command.startswith("ExecStart=/")
    assert command.endswith(" serve")
    assert "@" not in command
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        return
    path = tmp_path / "mergescale.service"
    path.write_text(unit.replace(command, "ExecStart=/bin/true serve"), "utf-8")
    done = subprocess.run([analyze, "verify", path], capture_output=True, text=True, check=False)
    assert str(path) not in done.stderr
