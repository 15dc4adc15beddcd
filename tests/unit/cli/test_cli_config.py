"""``mergescale config``: what the server would start with, and where that comes from."""

from __future__ import annotations

from pathlib import Path

from support.command_line import CommandLine

GOOD = """\
# what we say about ourselves
server_url = "https://vpn.example.com"
database_url = "postgresql+psycopg://mergescale:hunter2@db.example.com/mergescale"

[tailnets.corp]
url = "https://git.example.com/policy.git"
"""


def test_every_value_names_where_it_comes_from(tmp_path: Path) -> None:
    """File and line, the variable that wins over it, or the default; no password."""
    file = tmp_path / "mergescale.toml"
    file.write_text(GOOD, "utf-8")
    environment = {
        "MERGESCALE_CONFIG": str(file),
        "MERGESCALE_SERVER_URL": "https://other.example.com",
        "MERGESCALE_TAILNETS__CORP__BRANCH": "live",
        "MERGESCALE_TOKEN": "mskey-api-for-the-command-line",
    }
    ended = CommandLine((), environment)("config", "check", "-o", "json")
    assert (ended.code, ended.err) == (0, "")
    settings, origins = {}, {}
    for name, one in ended.json["settings"].items():
        settings[name], origins[name] = one["value"], one["origin"]
    assert settings["server_url"] == "https://other.example.com"
    assert origins["server_url"] == "MERGESCALE_SERVER_URL"
    assert settings["database_url"] == "postgresql+psycopg://mergescale:…@db.example.com/mergescale"
    assert origins["database_url"] == f"{file}:3"
    assert settings["tailnets"] == "corp: https://git.example.com/policy.git (live)"
    assert origins["tailnets"] == "MERGESCALE_TAILNETS__CORP__BRANCH"
    assert (settings["listen"], origins["listen"]) == ("127.0.0.1:8080", "default")
    assert ended.json["problems"] == []
    assert "hunter2" not in ended.out


def test_show_leaves_the_defaults_out() -> None:
    """What was said, and nothing else."""
    mergescale = CommandLine((), {"MERGESCALE_BRANCH": "live"})
    shown = mergescale("config", "show")
    assert shown.out == "SETTING  VALUE  FROM\nbranch   live   MERGESCALE_BRANCH\n"
    assert (shown.code, shown.err) == (0, "")
    assert CommandLine()("config", "show").out == "every setting has its default\n"


def test_every_problem_is_a_line(tmp_path: Path) -> None:
    """The place, the setting, what is wrong, and what was probably meant; exit code 1."""
    file = tmp_path / "mergescale.toml"
    file.write_text(
        'lisen = ":80"\nrelay_region = 0\n\n[tailnets.corp]\nurl = "/p"\nbranhc = "x"\n', "utf-8"
    )
    environment = {"MERGESCALE_LOG_LEVEL": "loud", "MERGESCALE_STAT_DIR": "var"}
    ended = CommandLine((), environment)("config", "check", "--config", file)
    assert (ended.code, ended.out) == (1, "")
    levels = "input should be 'debug', 'info', 'warning' or 'error'"
    assert sorted(ended.err.splitlines()) == [
        f'error: {file}:1: lisen: no such setting; did you mean "listen"?',
        f"error: {file}:2: relay_region: input should be greater than or equal to 1",
        f'error: {file}:6: tailnets.corp.branhc: no such setting; did you mean "branch"?',
        f"error: MERGESCALE_LOG_LEVEL: log_level: {levels}",
        'error: MERGESCALE_STAT_DIR: stat_dir: no such setting; did you mean "state_dir"?',
    ]


def test_what_parses_and_cannot_be_used_is_told(tmp_path: Path) -> None:
    """Repositories, the database and the certificate are tried; credentials are not repeated."""
    environment = {
        "MERGESCALE_REPOSITORY": "https://ana:hunter2@git.example.com/policy.git",
        "MERGESCALE_DATABASE_URL": "mysql://ana:hunter2@db/name",
        "MERGESCALE_TLS_CERTIFICATE": str(tmp_path / "cert.pem"),
        "MERGESCALE_TLS_KEY": str(tmp_path / "key.pem"),
    }
    ended = CommandLine((), environment)("config", "check")
    lines = ended.err.splitlines()
    assert ended.code == 1
    assert [line.split(": ")[1:3] for line in lines] == [
        ["MERGESCALE_DATABASE_URL", "database_url"],
        ["MERGESCALE_TLS_CERTIFICATE", "tls_certificate"],
        ["MERGESCALE_REPOSITORY", "repository"],
    ]
    assert lines[2].startswith(
        "error: MERGESCALE_REPOSITORY: repository: an https address holds no user name"
    )
    assert "hunter2" not in ended.out + ended.err


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    """Not there, or not TOML: the line is named."""
    file = tmp_path / "mergescale.toml"
    mergescale = CommandLine()
    ended = mergescale("config", "check", "--config", file)
    missing = "the configuration file cannot be read: no such file or directory"
    assert (ended.code, ended.err) == (1, f"error: {file}: {missing}\n")
    file.write_text('listen = ":80"\nbranch = main\n', "utf-8")
    ended = mergescale("config", "show", "--config", file)
    assert (ended.code, ended.err) == (1, f"error: {file}:2: this is not TOML: invalid value\n")


def test_settings_that_contradict_each_other_have_no_place() -> None:
    """It is said what is wrong with them together."""
    ended = CommandLine((), {"MERGESCALE_TLS_KEY": "key.pem"})("config", "check")
    assert (ended.code, ended.err) == (1, "error: tls_certificate and tls_key go together\n")


def test_keys_that_commits_must_be_signed_with_are_tried(tmp_path: Path) -> None:
    """A file that is not there would keep every commit away; the mode shows."""
    file, gone = tmp_path / "mergescale.toml", tmp_path / "signers"
    text = f'[tailnets.corp]\nurl = "/p"\n[tailnets.corp.trust]\nssh_signers = "{gone}"\n'
    file.write_text(f'{text}signatures = "head"\n', "utf-8")
    ended = CommandLine()("config", "check", "--config", file)
    assert ended.code == 1
    assert ended.err == (
        f'error: {file}:3: tailnets.corp.trust: the file of allowed signers "{gone}" cannot be'
        " read: no such file or directory"
        " (until it can no commit comes into force; what is in force stays)\n"
    )
    assert "corp: /p (main, signatures head)" in ended.out


def test_trust_that_would_be_none_is_refused(tmp_path: Path) -> None:
    """Keys without a mode, a mode without keys, a name that is none, an odd e-mail."""
    file = tmp_path / "mergescale.toml"
    texts = (
        'ssh_signers = "/s"',
        'signatures = "strict"',
        'signature = "head"',
        'committers = ["*@*"]',
    )
    told = []
    for text in texts:
        file.write_text(f'[tailnets.corp]\nurl = "/p"\n[tailnets.corp.trust]\n{text}\n', "utf-8")
        ended = CommandLine()("config", "check", "--config", file)
        assert ended.code == 1
        told.append(ended.err.partition("tailnets.corp.trust")[2].splitlines()[0])
    assert told == [
        ': keys are named but "signatures" does not say "head" or "strict"',
        ": signatures need ssh_signers or gpg_keys, or no commit is good",
        '.signature: no such setting; did you mean "signatures"?',
        ".committers.0: string should match pattern '^[^@\\s]+@[^@\\s*]+$'",
    ]


def test_forges_are_tried_too(tmp_path: Path) -> None:
    """Where each is has to be said, and no two tailnets tell one project the same."""
    file = tmp_path / "mergescale.toml"
    text = """\
[tailnets.a]
url = "git@git.example.com:team/policy.git"
forge.kind = "gitea"

[tailnets.b]
url = "https://git.example.com/team/policy"
path = "b"
forge = { kind = "gitea" }

[tailnets.c]
url = "/srv/policy.git"
forge.kind = "github"

[tailnets.d]
url = "ftp://git.example.com/team/policy"
forge.kind = "gitea"
"""
    file.write_text(text, "utf-8")
    mergescale = CommandLine((), {"MERGESCALE_CONFIG": str(file)})
    found = mergescale("config", "check", "-o", "json").json["problems"]
    own, said = "give each of them its own forge.contexts", "set forge.api_url and forge.project"
    assert [(one["setting"], one["message"]) for one in found[:3]] == [
        ("tailnets.a.forge", f'"a" and "b" tell team/policy the same statuses ({own})'),
        ("tailnets.b.forge", f'"b" and "a" tell team/policy the same statuses ({own})'),
        (
            "tailnets.c.forge",
            f"a repository on this machine says nothing of its forge ({said})",
        ),
    ]
    assert [one["setting"] for one in found[3:]] == ["tailnets.d"]
    apart = text.replace('forge = { kind = "gitea" }', 'forge = { kind = "gitea", contexts = "b" }')
    file.write_text(apart.partition("[tailnets.c]")[0], "utf-8")
    assert mergescale("config", "check").code == 0
