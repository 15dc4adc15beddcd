"""Notifications of a running server: each change once, across restarts, and no secret anywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.command_line import CommandLine
from support.real_clients import eventually
from support.receivers import mailing, receiving
from support.server_process import PolicyRepository, ServerProcess, serving

# A server process starts several times.
pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(120)]

CANARY = "hunter2-canary"


def test_changes_are_told_once_and_across_a_restart(tmp_path: Path) -> None:
    """By webhook, Slack and mail; a receiver that is in trouble gets it later, all of it in order."""
    repository = PolicyRepository.from_example(tmp_path / "policy", "01-start-up")
    good = repository.read()
    with receiving() as bot, receiving() as slack, mailing() as mail:
        channels = [
            {"kind": "webhook", "name": "bot", "url": f"{bot.url}/hook"},
            {"kind": "slack", "name": "team", "events": ["gitopsCommitRefused"]},
            {
                "kind": "email",
                "name": "ops",
                "host": "127.0.0.1",
                "port": mail.port,
                "security": "none",
                "user": "mergescale",
                "sender": "mergescale@example.com",
                "to": ["ana@example.com"],
                "events": ["gitopsCommitRefused", "gitopsRecovered"],
            },
        ]
        followed = {"url": str(repository.folder), "notify": channels}
        settings = {"tailnets": json.dumps({"default": followed})}
        server = ServerProcess(tmp_path / "state", settings=settings)
        cli = CommandLine(("--state-dir", str(server.state_dir)))

        def types() -> list[str]:
            return [event["type"] for _, _, body in bot.took for event in json.loads(body)]

        with serving(server):
            secret = cli("gitops", "notify", "secret", "bot").out.strip()
            url = f"{slack.url}/{CANARY}".encode()
            assert cli("gitops", "notify", "secret", "team", "--stdin", stdin=url).code == 0
            password = CANARY.encode()
            assert cli("gitops", "notify", "secret", "ops", "--stdin", stdin=password).code == 0
            assert cli("gitops", "notify", "test", "bot").out == "bot took it\n"
            eventually("the first is told", lambda: "policyUpdate" in types(), within_s=15)
            bad = repository.commit("bad", policy="{")
            eventually("mail is told", lambda: len(mail.took) == 1, within_s=15)
            eventually("slack is told", lambda: len(slack.took) == 1, within_s=15)
            eventually("the bot is told", lambda: "gitopsCommitRefused" in types(), within_s=15)
            for _ in range(3):
                cli("gitops", "sync")
            bot.status = 503
            assert "another time" in cli("gitops", "notify", "test", "bot").err
        with serving(server):
            cli("gitops", "sync")
            bot.status = 200
            repository.commit("good again", policy=f"// again\n{good}")
            eventually("the bot hears of it", lambda: "gitopsRecovered" in types(), within_s=30)
            eventually("mail hears of it", lambda: len(mail.took) == 2, within_s=15)
            eventually("it is told", lambda: types().count("policyUpdate") == 2, within_s=15)
        told = [one for one in types() if one != "test"]
        assert sorted(told) == sorted(
            ["policyUpdate", "gitopsCommitRefused", "gitopsRecovered", "policyUpdate"]
        )
        assert (len(slack.took), len(mail.took)) == (1, 2)
        events = [event for _, _, body in bot.took for event in json.loads(body)]
        updates = [event["data"] for event in events if event["type"] == "policyUpdate"]
        assert updates[0].get("newPolicy") == good, updates
        again = {"oldPolicy": good, "newPolicy": f"// again\n{good}"}
        assert updates[1].items() >= again.items()
        assert mail.logins[0] == ("mergescale", CANARY)
        refused = [e for _, _, b in bot.took for e in json.loads(b) if e["data"].get("reason")]
        assert refused[0]["data"]["commit"] == bad
        files = [one for one in server.state_dir.rglob("*") if one.is_file()]
        for canary in (CANARY, secret.split("-", 3)[3]):
            assert not any(canary.encode() in one.read_bytes() for one in files)
