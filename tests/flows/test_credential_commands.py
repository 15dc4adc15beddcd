"""``mergescale gitops credential`` at a running server, from the new key to the commit in force."""

from __future__ import annotations

import json
from pathlib import Path

from support.git_servers import new_ssh_key, ssh_server
from support.hostkey import HOST_KEY
from support.repositories import Repository
from support.server_process import ServerProcess, serving


def test_an_operator_needs_nothing_but_the_command_line(tmp_path: Path) -> None:
    """Make a key, have it accepted, look, exchange it, drop it; secrets come from files."""
    repository = Repository(tmp_path / "served" / "policy.git")
    repository.commit({"policy.hujson": '{"acls": []}'})
    with ssh_server(tmp_path / "sshd", repository.path) as git:
        hosts, key = tmp_path / "known_hosts", tmp_path / "deploy_key"
        hosts.write_text(git.known_hosts, "utf-8")
        settings = {"tailnets": json.dumps({"default": {"url": git.url, "poll_s": 600}})}
        server = ServerProcess(tmp_path / "server", settings=settings)
        with serving(server):
            credential = ("gitops", "credential")
            shown = server.cli(*credential, "show")
            assert (shown.returncode, shown.stdout.split()[-1]) == (0, "none")

            refused = server.cli(*credential, "generate", "--yes")
            assert refused.returncode == 1
            assert "there are no host keys of the repository's ssh server yet" in refused.stderr
            words = ("generate", "--known-hosts", str(hosts))
            unasked = server.cli(*credential, *words)
            assert (unasked.returncode, "say --yes" in unasked.stderr) == (1, True)
            made = server.cli(*credential, *words, "--yes")
            assert made.returncode == 0, made.stderr
            git.lets_in(made.stdout.strip())
            assert server.cli("gitops", "sync").returncode == 0

            private, public = new_ssh_key()
            key.write_text(private, "utf-8")
            given = ("--kind", "ssh", "--secret-file", str(key), "--known-hosts", str(hosts))
            assert server.cli(*credential, "set", *given).returncode == 0
            git.lets_in(public)
            assert server.cli("gitops", "sync").returncode == 0
            told = json.loads(server.cli(*credential, "show", "-o", "json").stdout)
            assert told["publicKey"] == f"{public} mergescale"
            assert told["repository"] == git.url

            hosts.write_text(f"other.example.com {HOST_KEY}\n", "utf-8")
            wrong = server.cli(*credential, "set", *given)
            assert wrong.returncode == 1
            assert "knownHosts has no line of the repository's host" in wrong.stderr
            dropped = server.cli(*credential, "drop", "--yes")
            assert dropped.returncode == 0, dropped.stderr
            assert server.cli(*credential, "drop", "--yes").returncode == 1
