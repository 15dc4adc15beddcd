"""The password of a PostgreSQL URL: it goes to the database and nowhere else."""

from __future__ import annotations

import httpx
import pytest

from support.plain import PLAIN
from support.postgres import PostgresServer
from support.real_clients import eventually, free_port
from support.server_process import Api, ServerProcess, serving

pytestmark = pytest.mark.enable_socket

CANARY = "hunter2-canary"


def with_password(url: str) -> str:
    """Return the URL with a password, which this database takes as it takes any."""
    user, at, rest = url.partition("@/")
    return f"{user}:{CANARY}{at}{rest}"


COMMANDS = ("config check", "config show -o json", "doctor")


def asked(server: ServerProcess, api: Api, metrics: int, *commands: str) -> list[str]:
    """Return what is said by everything that speaks of the server."""
    done = [server.cli(*words.split()) for words in commands]
    return [
        *(one.stdout + one.stderr for one in done),
        httpx.get(f"http://127.0.0.1:{metrics}/metrics").text,
        *(api.http.get(f"{server.url}{path}").text for path in ("/health", "/version", "/")),
        api.http.post("/tailnet/-/keys", json={"capabilities": {}}).text,
    ]


def test_a_password_stays_with_the_database(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Not in the log of its very debugging, metrics, health, doctor, configuration or errors.

    While all is well, and when the database takes no connection any more.
    """
    url, metrics = postgres.new_database(), free_port()
    server = ServerProcess(
        tmp_path_factory.mktemp("password") / "state",
        settings={
            "database_url": with_password(url),
            "metrics_listen": f"127.0.0.1:{metrics}",
            "lease_s": "1",
        },
    )
    with serving(server) as api:
        said = asked(server, api, metrics, *COMMANDS)
        name = url.partition("@/")[2].partition("?")[0]
        postgres.execute("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false", name)
        terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
        postgres.execute(terminate + f"'{name}'")
        eventually("the server notices", lambda: not well(server), within_s=20)
        said += asked(server, api, metrics, "doctor")
        api.http.post("/users", json={"login": "eve@example.com"})
    said.append(server.log.read_text("utf-8", "replace"))
    assert sum(map(len, said)) > 5000
    assert [text for text in said if CANARY in text] == []


def well(server: ServerProcess) -> bool:
    return httpx.get(f"{server.url}/health", timeout=10, verify=PLAIN).status_code == 200
